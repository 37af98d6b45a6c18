/**
 * The errors of this package: one class per error, each with a stable `code`.
 *
 * `instanceof` looks at a brand and the code, not at the prototype chain, so it also holds for an error that was made
 * in another realm, or by the other of the package's two builds (ESM and CommonJS).
 */

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
  /** What went wrong, for programs. It never changes between versions, unlike the message. */
  abstract readonly code: ErrorCode;

  /** @internal */
  readonly [BRAND] = true;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    Object.defineProperty(this, BRAND, { enumerable: false });
  }

  /** The name of the error's class. */
  override get name(): string {
    return this.constructor.name;
  }

  /** Tells errors of this package by their brand and code, whichever realm or build they come from. */
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

/** There is no such device: the driver is not installed, not started, or has another name. */
export class NotFoundError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_NOT_FOUND';
  override readonly code = NotFoundError.code;
}

/** The device may only be opened by the system and by administrators. */
export class AccessDeniedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_ACCESS_DENIED';
  override readonly code = AccessDeniedError.code;
}

/** Somebody else has the device open, or more waits to be read than may be kept in memory. */
export class BusyError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_BUSY';
  override readonly code = BusyError.code;
}

/** The device was used after it had been closed, or was closed while the answer was on its way. */
export class ClosedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_CLOSED';
  override readonly code = ClosedError.code;
}

/** Bytes that are not what the wire protocol says: from the driver, or given to the codec. */
export class ProtocolError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_PROTOCOL';
  override readonly code = ProtocolError.code;
}

/** A connection or packet was given a second verdict. */
export class AlreadyDecidedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_ALREADY_DECIDED';
  override readonly code = AlreadyDecidedError.code;
}

/** This platform, this driver, or this object cannot do what was asked. */
export class UnsupportedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_UNSUPPORTED';
  override readonly code = UnsupportedError.code;
}

/** The driver has shut down: it no longer filters, and answers nothing any more. */
export class DriverShutdownError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DRIVER_SHUTDOWN';
  override readonly code = DriverShutdownError.code;
}

/** An argument, an option or a policy is not what it must be; the message names it. */
export class InvalidArgumentError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_INVALID_ARGUMENT';
  override readonly code = InvalidArgumentError.code;
}

/** The operating system or the driver failed a request for a reason that has no class of its own. */
export class DeviceError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DEVICE';
  override readonly code = DeviceError.code;
}

/** The driver's service is not in the state that this needs: it exists already, does not run, is about to go. */
export class ServiceStateError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_SERVICE_STATE';
  override readonly code = ServiceStateError.code;
}

/** Windows does not load the driver: for its signature, by a policy, or as it is made for another processor. */
export class DriverRefusedError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_DRIVER_REFUSED';
  override readonly code = DriverRefusedError.code;
}

/** What was waited for did not happen in time. */
export class TimeoutError extends NetVerdictError {
  /** The code of every error of this class. */
  static readonly code = 'ERR_NETVERDICT_TIMEOUT';
  override readonly code = TimeoutError.code;
}
