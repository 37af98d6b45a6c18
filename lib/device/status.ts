/** Translates NTSTATUS codes into this package's errors. @internal */

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

/** The codes with which a driver may fail a request that it does not know. */
const UNKNOWN_REQUEST: ReadonlySet<number> = new Set([
  Status.NotImplemented,
  Status.InvalidParameter,
  Status.InvalidDeviceRequest,
  Status.NotSupported,
]);

/** Facility NTWIN32: the addon reports a Win32 error without an NTSTATUS counterpart in it. */
const WIN32_FACILITY = 0xc007_0000;

/** Success and informational codes have a clear sign bit. A status may be signed or unsigned. */
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
 * Makes the error of a failed request. Its cause has the `status`, or the Win32 error as `errno`.
 *
 * @param what What was tried, such as `Reading events`.
 */
export function statusError(status: number, what: string): NetVerdictError {
  const code = status >>> 0;
  const [ErrorClass, explanation] = explain(code);
  return new ErrorClass(`${what}: ${explanation}`, { cause: causeOf(code) });
}

/** Translates an error of the addon by its `status`. Returns it unchanged if it has none. */
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
        'the system is out of memory. Ask for less (maxQueuedBytes, readBuffers), or free memory.',
      ];
    case Status.ObjectNameNotFound:
    case Status.NoSuchDevice:
      return [
        NotFoundError,
        'there is no such device. Install and start the driver, or pass the path of its device.',
      ];
    case Status.AccessDenied:
      return [
        AccessDeniedError,
        'access denied. Run as administrator, and close any other client of the device: it takes one at a time.',
      ];
    case Status.DeviceAlreadyAttached:
    case Status.SharingViolation:
    case Status.DeviceBusy:
      return [
        BusyError,
        'another client has the device open, and a device takes one at a time. Close it there first.',
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
        'this driver does not know the request. Update the driver, or do without the request.',
      ];
    case Status.BufferTooSmall:
      return [
        UnsupportedError,
        'the answer of the driver is longer than this version of the library expects. Update the library, or use an older driver.',
      ];
    case Status.InvalidParameter:
      return [
        InvalidArgumentError,
        'the driver rejected a value. Call getLogs() to see which one.',
      ];
    case Status.ObjectNameInvalid:
      return [
        InvalidArgumentError,
        "Windows does not accept this name for a device. Pass the path of the driver's device.",
      ];
    case Status.IoTimeout:
      return [
        DeviceError,
        'the driver did not answer in time. Restart the driver, and read its log.',
      ];
    case Status.OpenFailed:
    case Status.IoDeviceError:
      return [DeviceError, 'the device failed. Restart the driver, and read its log.'];
    default:
      return [DeviceError, explainNumber(code)];
  }
}

function explainNumber(code: number): string {
  const error = win32Error(code);
  return error === undefined
    ? `status ${hexadecimal(code)}. Look it up in the list of NTSTATUS values.`
    : `Windows failed with error ${error}. 'net helpmsg ${error}' explains it.`;
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
