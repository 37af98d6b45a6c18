/** From the status codes of Windows' kernel to this package's errors. @internal */

import {
  AccessDeniedError,
  BusyError,
  ClosedError,
  DeviceError,
  DriverShutdownError,
  InvalidArgumentError,
  NotFoundError,
  UnsupportedError,
  type NetVerdictError,
} from './errors.js';

export const Status = {
  Success: 0x0000_0000,
  InvalidParameter: 0xc000_000d,
  InvalidDeviceRequest: 0xc000_0010,
  EndOfFile: 0xc000_0011,
  AccessDenied: 0xc000_0022,
  BufferTooSmall: 0xc000_0023,
  ObjectNameNotFound: 0xc000_0034,
  DeviceAlreadyAttached: 0xc000_0038,
  SharingViolation: 0xc000_0043,
  InsufficientResources: 0xc000_009a,
  DeviceNotConnected: 0xc000_009d,
  DeviceNotReady: 0xc000_00a3,
  IoTimeout: 0xc000_00b5,
  Cancelled: 0xc000_0120,
  FileClosed: 0xc000_0128,
  InvalidDeviceState: 0xc000_0184,
} as const;

/** Win32 error codes as they come from the addon: of facility NTWIN32. */
const fromWin32 = (code: number): number => 0xc007_0000 + code;

const Win32 = {
  FileNotFound: fromWin32(2),
  PathNotFound: fromWin32(3),
  AccessDenied: fromWin32(5),
  InvalidHandle: fromWin32(6),
  BadDevice: fromWin32(20),
  NotReady: fromWin32(21),
  GeneralFailure: fromWin32(31),
  SharingViolation: fromWin32(32),
  EndOfFile: fromWin32(38),
  InvalidParameter: fromWin32(87),
  Busy: fromWin32(170),
  NotEnoughMemory: fromWin32(8),
  NoSystemResources: fromWin32(1450),
  WorkingSetQuota: fromWin32(1453),
  NotEnoughQuota: fromWin32(1816),
  OperationAborted: fromWin32(995),
  DeviceNotConnected: fromWin32(1167),
  NotSupported: fromWin32(50),
  InvalidFunction: fromWin32(1),
} as const;

const OUT_OF_MEMORY: ReadonlySet<number> = new Set([
  Status.InsufficientResources,
  Win32.NotEnoughMemory,
  Win32.NoSystemResources,
  Win32.WorkingSetQuota,
  Win32.NotEnoughQuota,
]);

/** Success and informational codes have the sign bit clear; a status may come signed or unsigned. */
export function isSuccess(status: number): boolean {
  return status >>> 0 < 0x8000_0000;
}

export function isOutOfMemory(status: number): boolean {
  return OUT_OF_MEMORY.has(status >>> 0);
}

export function statusError(status: number, what: string): NetVerdictError {
  const code = status >>> 0;
  if (OUT_OF_MEMORY.has(code)) {
    return new DeviceError(
      `${what}: the system is out of memory for it. Ask for less (maxQueuedBytes, readBuffers), or free memory.`,
    );
  }
  switch (code) {
    case Status.ObjectNameNotFound:
    case Win32.FileNotFound:
    case Win32.PathNotFound:
    case Win32.BadDevice:
      return new NotFoundError(
        `${what}: there is no such device. Install and start the driver, or pass the path it answers at.`,
      );
    case Status.AccessDenied:
    case Win32.AccessDenied:
      return new AccessDeniedError(
        `${what}: access denied. Run as administrator, and close the client that may have the device open: there is one at a time.`,
      );
    case Status.DeviceAlreadyAttached:
    case Status.SharingViolation:
    case Win32.SharingViolation:
    case Win32.Busy:
      return new BusyError(
        `${what}: another client has the device open. Close it there first; there is one client at a time.`,
      );
    case Status.EndOfFile:
    case Status.DeviceNotConnected:
    case Status.DeviceNotReady:
    case Status.InvalidDeviceState:
    case Win32.EndOfFile:
    case Win32.NotReady:
    case Win32.GeneralFailure:
    case Win32.DeviceNotConnected:
      return new DriverShutdownError(
        `${what}: the driver has shut down. Start it again and open a new device.`,
      );
    case Status.Cancelled:
    case Status.FileClosed:
    case Win32.OperationAborted:
    case Win32.InvalidHandle:
      return new ClosedError(`${what}: the device was closed. Open a new one.`);
    case Status.InvalidDeviceRequest:
    case Win32.InvalidFunction:
    case Win32.NotSupported:
      return new UnsupportedError(
        `${what}: this driver does not know the request. Update the driver, or do without it.`,
      );
    case Status.InvalidParameter:
    case Win32.InvalidParameter:
      return new InvalidArgumentError(
        `${what}: the driver rejected a value. Its log, by getLogs(), says which.`,
      );
    case Status.IoTimeout:
      return new DeviceError(
        `${what}: the driver did not answer in time. Restart the driver, and look at its log.`,
      );
    default:
      return new DeviceError(
        `${what}: status 0x${code.toString(16).padStart(8, '0')}. Look the status up among the NTSTATUS values.`,
      );
  }
}
