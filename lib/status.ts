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
  Cancelled: 0xc000_0120,
  FileClosed: 0xc000_0128,
  InvalidDeviceState: 0xc000_0184,
} as const;

/** Success and informational codes have the sign bit clear; a status may come signed or unsigned. */
export function isSuccess(status: number): boolean {
  return status >>> 0 < 0x8000_0000;
}

export function statusError(status: number, what: string): NetVerdictError {
  const code = status >>> 0;
  switch (code) {
    case Status.ObjectNameNotFound:
      return new NotFoundError(
        `${what}: there is no such device. Install and start the driver, or pass the path it answers at.`,
      );
    case Status.AccessDenied:
      return new AccessDeniedError(`${what}: access denied. Run as administrator.`);
    case Status.DeviceAlreadyAttached:
    case Status.SharingViolation:
      return new BusyError(
        `${what}: another client has the device open. Close it there first; there is one client at a time.`,
      );
    case Status.EndOfFile:
    case Status.DeviceNotConnected:
    case Status.DeviceNotReady:
    case Status.InvalidDeviceState:
      return new DriverShutdownError(
        `${what}: the driver has shut down. Start it again and open a new device.`,
      );
    case Status.Cancelled:
    case Status.FileClosed:
      return new ClosedError(`${what}: the device was closed. Open a new one.`);
    case Status.InvalidDeviceRequest:
      return new UnsupportedError(
        `${what}: this driver does not know the request. Update the driver, or do without it.`,
      );
    case Status.InvalidParameter:
      return new InvalidArgumentError(
        `${what}: the driver rejected a value. Its log, by getLogs(), says which.`,
      );
    default:
      return new DeviceError(
        `${what}: status 0x${code.toString(16).padStart(8, '0')}. Look the status up among the NTSTATUS values.`,
      );
  }
}
