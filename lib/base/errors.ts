/**
 * The errors of this package: one class per error, each with a stable `code`.
 *
 * `instanceof` compares a brand and the code, not the prototype chain.
 * So it also works for errors of another realm, or of the package's other build (ESM or CommonJS).
 */

import { printable } from './text.js';

const BRAND: unique symbol = Symbol.for('netverdict.error');

/** The stable codes, one for each error class. */
export type ErrorCode =
  | 'ERR_NETVERDICT_NOT_FOUND'
  | 'ERR_NETVERDICT_ACCESS_DENIED'
  | 'ERR_NETVERDICT_BUSY'
  | 'ERR_NETVERDICT_CLOSED'
  | 'ERR_NETVERDICT_PROTOCOL'
  | 'ERR_NETVERDICT_ALREADY_DECIDED'
  | 'ERR_NETVERDICT_UNSUPPORTED'
  | 'ERR_NETVERDICT_DRIVER_SHUTDOWN'
  | 'ERR_NETVERDICT_INVALID_ARGUMENT'
  | 'ERR_NETVERDICT_DEVICE'
  | 'ERR_NETVERDICT_SERVICE_STATE'
  | 'ERR_NETVERDICT_DRIVER_REFUSED'
  | 'ERR_NETVERDICT_TIMEOUT';

function isBranded(value: unknown): value is { readonly code: unknown } {
  return typeof value === 'object' && value !== null && BRAND in value;
}

/**
 * The base of every error that this package throws.
 *
 * @example
 * ```ts
 * try {
 *   await open();
 * } catch (error) {
 *   if (error instanceof NetVerdictError) console.error(error.code, error.message);
 *   else throw error;
 * }
 * ```
 */
export abstract class NetVerdictError extends Error {
  /** Identifies the error to programs. Unlike the message, it never changes between versions. */
  abstract readonly code: ErrorCode;

  /** @internal */
  readonly [BRAND] = true;

  constructor(message: string, options?: ErrorOptions) {
    super(printable(message), options);
    Object.defineProperty(this, BRAND, { enumerable: false });
  }

  /** The name of the error's class. */
  override get name(): string {
    return this.constructor.name;
  }

  /** Compares the brand and the code, so that errors of another realm or build match. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this === NetVerdictError) {
      return isBranded(value);
    }
    if (Object.hasOwn(this, 'code')) {
      return isBranded(value) && value.code === Reflect.get(this, 'code');
    }
    return Function.prototype[Symbol.hasInstance].call(this, value);
  }
}

/** There is no such device, service or file: the driver is not installed or not started, or has another name. */
export class NotFoundError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_NOT_FOUND';
  override readonly code = NotFoundError.code;
}

/** Access denied: only administrators may open the device or control the service. */
export class AccessDeniedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_ACCESS_DENIED';
  override readonly code = AccessDeniedError.code;
}

/** Another client has the device open, or more events wait to be read than may be kept in memory. */
export class BusyError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_BUSY';
  override readonly code = BusyError.code;
}

/** The device or simulator was closed before the call, or while its answer was pending. */
export class ClosedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_CLOSED';
  override readonly code = ClosedError.code;
}

/** Bytes that violate the wire protocol, from the driver or passed to the codec. */
export class ProtocolError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_PROTOCOL';
  override readonly code = ProtocolError.code;
}

/** A second verdict for one connection or packet. */
export class AlreadyDecidedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_ALREADY_DECIDED';
  override readonly code = AlreadyDecidedError.code;
}

/** This platform, driver or object does not support the operation. */
export class UnsupportedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_UNSUPPORTED';
  override readonly code = UnsupportedError.code;
}

/** The driver has shut down: it neither filters nor answers. */
export class DriverShutdownError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DRIVER_SHUTDOWN';
  override readonly code = DriverShutdownError.code;
}

/** An invalid argument, option or policy; the message names it. */
export class InvalidArgumentError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_INVALID_ARGUMENT';
  override readonly code = InvalidArgumentError.code;
}

/** The operating system or the driver failed a request, for a reason without an error class. */
export class DeviceError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DEVICE';
  override readonly code = DeviceError.code;
}

/** The driver's service is in the wrong state: it already exists, does not run, or is being removed. */
export class ServiceStateError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_SERVICE_STATE';
  override readonly code = ServiceStateError.code;
}

/**
 * The driver is refused: by Windows, for its signature, a policy or its processor architecture.
 * Or by this package, because others than administrators may write its file.
 */
export class DriverRefusedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DRIVER_REFUSED';
  override readonly code = DriverRefusedError.code;
}

/** An operation did not finish in time. */
export class TimeoutError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_TIMEOUT';
  override readonly code = TimeoutError.code;
}
