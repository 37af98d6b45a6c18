import { createContext, runInContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import * as errors from '../../lib/base/errors.js';
import { BusyError, ClosedError, NetVerdictError, ProtocolError } from '../../lib/base/errors.js';

const classes = [
  [errors.NotFoundError, 'ERR_NETVERDICT_NOT_FOUND'],
  [errors.AccessDeniedError, 'ERR_NETVERDICT_ACCESS_DENIED'],
  [errors.BusyError, 'ERR_NETVERDICT_BUSY'],
  [errors.ClosedError, 'ERR_NETVERDICT_CLOSED'],
  [errors.ProtocolError, 'ERR_NETVERDICT_PROTOCOL'],
  [errors.AlreadyDecidedError, 'ERR_NETVERDICT_ALREADY_DECIDED'],
  [errors.UnsupportedError, 'ERR_NETVERDICT_UNSUPPORTED'],
  [errors.DriverShutdownError, 'ERR_NETVERDICT_DRIVER_SHUTDOWN'],
  [errors.InvalidArgumentError, 'ERR_NETVERDICT_INVALID_ARGUMENT'],
  [errors.DeviceError, 'ERR_NETVERDICT_DEVICE'],
  [errors.ServiceStateError, 'ERR_NETVERDICT_SERVICE_STATE'],
  [errors.DriverRefusedError, 'ERR_NETVERDICT_DRIVER_REFUSED'],
  [errors.TimeoutError, 'ERR_NETVERDICT_TIMEOUT'],
] as const;

/** An error as another realm or another copy of the package makes it. */
function foreignError(code: string): unknown {
  return runInContext(
    `Object.assign(new Error('elsewhere'), {
       code: ${JSON.stringify(code)},
       [Symbol.for('netverdict.error')]: true,
     })`,
    createContext(),
  );
}

describe('the error classes', () => {
  it.each(classes)('%o keeps its code %s, its message, its cause and its name', (Class, code) => {
    const cause = new Error('why');
    const error = new Class('what and what next', { cause });
    expect(error).toMatchObject({ code, message: 'what and what next', cause, name: Class.name });
    expect(error).toBeInstanceOf(Error);
    expect(error.stack).toContain(`${Class.name}: what and what next`);
  });

  it.each(classes)('%o is an instance of itself and of NetVerdictError only', (Class) => {
    const error = new Class('x');
    expect(error instanceof NetVerdictError).toBe(true);
    for (const [Other] of classes) {
      expect(error instanceof Other).toBe(Other === Class);
    }
  });

  it('recognize their errors of another realm', () => {
    const error = foreignError('ERR_NETVERDICT_BUSY');
    expect(error instanceof Error).toBe(false);
    expect(error instanceof NetVerdictError).toBe(true);
    expect(error instanceof BusyError).toBe(true);
    expect(error instanceof ClosedError).toBe(false);
  });

  it('recognize nothing else', () => {
    const lookalike = Object.assign(new Error('x'), { code: 'ERR_NETVERDICT_BUSY' });
    for (const value of [lookalike, new Error('x'), null, undefined, 'x', 7]) {
      expect(value instanceof NetVerdictError).toBe(false);
      expect(value instanceof BusyError).toBe(false);
    }
  });

  it('leave a derived class of an application to the usual rules', () => {
    class SpecialError extends BusyError {}
    expect(new SpecialError('x') instanceof SpecialError).toBe(true);
    expect(new SpecialError('x') instanceof BusyError).toBe(true);
    expect(new BusyError('x') instanceof SpecialError).toBe(false);
  });

  it('do not show their brand', () => {
    expect(Object.keys(new ProtocolError('x'))).toEqual(['code']);
  });
});
