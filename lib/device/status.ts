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
} from '../base/errors.js';

type ErrorClass = new (message: string, options?: ErrorOptions) => NetVerdictError;

export const Status = {
  Success: 0x0000_0000,
  DeviceBusy: 0x8000_0011,
  NotImplemented: 0xc000_0002,
  InvalidHandle: 0xc000_0008,
  InvalidParameter: 0xc000_000d,
  NoSuchDevice: 0xc000_000e,
  InvalidDeviceRequest: 0xc000_0010,
  EndOfFile: 0xc000_0011,
  AccessDenied: 0xc000_0022,
  BufferTooSmall: 0xc000_0023,
  ObjectNameInvalid: 0xc000_0033,
  ObjectNameNotFound: 0xc000_0034,
  DeviceAlreadyAttached: 0xc000_0038,
  SharingViolation: 0xc000_0043,
  InsufficientResources: 0xc000_009a,
  DeviceNotConnected: 0xc000_009d,
  DeviceNotReady: 0xc000_00a3,
  IoTimeout: 0xc000_00b5,
  NotSupported: 0xc000_00bb,
  Cancelled: 0xc000_0120,
  FileClosed: 0xc000_0128,
  OpenFailed: 0xc000_0136,
  InvalidDeviceState: 0xc000_0184,
  IoDeviceError: 0xc000_0185,
  DeviceRemoved: 0xc000_02b6,
} as const;

/** What a driver may answer to a request that it does not know. */
const UNKNOWN_REQUEST: ReadonlySet<number> = new Set([
  Status.NotImplemented,
  Status.InvalidParameter,
  Status.InvalidDeviceRequest,
  Status.NotSupported,
]);

/** The addon gives a Win32 error that stands for no status of the kernel as one of facility NTWIN32. */
const WIN32_FACILITY = 0xc007_0000;

/** Success and informational codes have the sign bit clear; a status may come signed or unsigned. */
export function isSuccess(status: number): boolean {
  return status >>> 0 < 0x8000_0000;
}

export function isOutOfMemory(status: number): boolean {
  return status >>> 0 === Status.InsufficientResources;
}

export function isUnknownRequest(status: number): boolean {
  return UNKNOWN_REQUEST.has(status >>> 0);
}

/**
 * The error for a request that failed. Its cause has the `status`, or the Win32 error as `errno`.
 *
 * @param what What was tried: `Reading events`.
 */
export function statusError(status: number, what: string): NetVerdictError {
  const code = status >>> 0;
  const [ErrorClass, explanation] = explain(code);
  return new ErrorClass(`${what}: ${explanation}`, { cause: causeOf(code) });
}

/** What the addon threw: the error for its `status`, or itself where it has none. */
export function nativeError(thrown: unknown, what: string): unknown {
  const status: unknown =
    typeof thrown === 'object' && thrown !== null && 'status' in thrown ? thrown.status : undefined;
  return typeof status === 'number' ? statusError(status, what) : thrown;
}

function explain(code: number): readonly [ErrorClass, string] {
  switch (code) {
    case Status.InsufficientResources:
      return [
        DeviceError,
        'the system is out of memory for it. Ask for less (maxQueuedBytes, readBuffers), or free memory.',
      ];
    case Status.ObjectNameNotFound:
    case Status.NoSuchDevice:
      return [
        NotFoundError,
        'there is no such device. Install and start the driver, or pass the path it answers at.',
      ];
    case Status.AccessDenied:
      return [
        AccessDeniedError,
        'access denied. Run as administrator, and close the client that may have the device open: there is one at a time.',
      ];
    case Status.DeviceAlreadyAttached:
    case Status.SharingViolation:
    case Status.DeviceBusy:
      return [
        BusyError,
        'another client has the device open. Close it there first; there is one client at a time.',
      ];
    case Status.EndOfFile:
    case Status.DeviceNotConnected:
    case Status.DeviceNotReady:
    case Status.DeviceRemoved:
    case Status.InvalidDeviceState:
      return [
        DriverShutdownError,
        'the driver has shut down. Start it again and open a new device.',
      ];
    case Status.Cancelled:
    case Status.FileClosed:
    case Status.InvalidHandle:
      return [ClosedError, 'the device was closed. Open a new one.'];
    case Status.InvalidDeviceRequest:
    case Status.NotImplemented:
    case Status.NotSupported:
      return [
        UnsupportedError,
        'this driver does not know the request. Update the driver, or do without it.',
      ];
    case Status.BufferTooSmall:
      return [
        UnsupportedError,
        'the driver answers with more than this version of the library knows. Update the library, or take an older driver.',
      ];
    case Status.InvalidParameter:
      return [
        InvalidArgumentError,
        'the driver rejected a value. Its log, by getLogs(), says which.',
      ];
    case Status.ObjectNameInvalid:
      return [
        InvalidArgumentError,
        'Windows takes no such name for a device. Pass the path the driver answers at.',
      ];
    case Status.IoTimeout:
      return [
        DeviceError,
        'the driver did not answer in time. Restart the driver, and look at its log.',
      ];
    case Status.OpenFailed:
    case Status.IoDeviceError:
      return [DeviceError, 'the device failed. Restart the driver, and look at its log.'];
    default:
      return [DeviceError, explainNumber(code)];
  }
}

function explainNumber(code: number): string {
  const error = win32Error(code);
  return error === undefined
    ? `status ${hexadecimal(code)}. Look the status up among the NTSTATUS values.`
    : `Windows failed it with error ${error}. 'net helpmsg ${error}' says what that is.`;
}

function causeOf(code: number): Error {
  const errno = win32Error(code);
  return errno === undefined
    ? Object.assign(new Error(`The request failed with NTSTATUS ${hexadecimal(code)}`), {
        status: code,
      })
    : Object.assign(new Error(`The request failed with Win32 error ${errno}`), { errno });
}

function win32Error(code: number): number | undefined {
  return (code & 0xffff_0000) >>> 0 === WIN32_FACILITY ? code & 0xffff : undefined;
}

function hexadecimal(code: number): string {
  return `0x${code.toString(16).padStart(8, '0')}`;
}
