import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BusyError } from '../../lib/base/errors.js';
import { isSuccess, nativeError, statusError } from '../../lib/device/status.js';

/** The status that the addon gives each Win32 error, from its source. */
const FROM_WIN32: ReadonlyMap<number, number> = new Map(
  Array.from(
    readFileSync(new URL('../../addon/win32/win32_status.cc', import.meta.url), 'utf8').matchAll(
      /\{(\d+), (0x[0-9A-F]{8})\}/g,
    ),
    ([, error, status]) => [Number(error), Number(status)],
  ),
);

describe('an NTSTATUS', () => {
  it.each([
    [0xc0000034, 'ERR_NETVERDICT_NOT_FOUND'],
    [0xc0000022, 'ERR_NETVERDICT_ACCESS_DENIED'],
    [0xc0000038, 'ERR_NETVERDICT_BUSY'],
    [0xc0000043, 'ERR_NETVERDICT_BUSY'],
    [0xc0000011, 'ERR_NETVERDICT_DRIVER_SHUTDOWN'],
    [0xc0000120, 'ERR_NETVERDICT_CLOSED'],
    [0xc0000010, 'ERR_NETVERDICT_UNSUPPORTED'],
    [0xc000000d, 'ERR_NETVERDICT_INVALID_ARGUMENT'],
    [0xc0000001, 'ERR_NETVERDICT_DEVICE'],
  ])('0x%s becomes %s', (status, code) => {
    expect(statusError(status, 'Doing it')).toMatchObject({ code });
    expect(statusError(status, 'Doing it').message).toMatch(/^Doing it: /);
    expect(statusError(status | 0, 'Doing it').code).toBe(code);
  });

  it.each([
    [2, 'ERR_NETVERDICT_NOT_FOUND', /Install and start/],
    [3, 'ERR_NETVERDICT_NOT_FOUND', /Install and start/],
    [20, 'ERR_NETVERDICT_NOT_FOUND', /Install and start/],
    [55, 'ERR_NETVERDICT_NOT_FOUND', /Install and start/],
    [433, 'ERR_NETVERDICT_NOT_FOUND', /Install and start/],
    [5, 'ERR_NETVERDICT_ACCESS_DENIED', /administrator/],
    [1314, 'ERR_NETVERDICT_ACCESS_DENIED', /administrator/],
    [6, 'ERR_NETVERDICT_CLOSED', /Open a new one/],
    [995, 'ERR_NETVERDICT_CLOSED', /Open a new one/],
    [8, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [14, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [1450, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [1453, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [1455, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [1784, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [1816, 'ERR_NETVERDICT_DEVICE', /free memory/],
    [21, 'ERR_NETVERDICT_DRIVER_SHUTDOWN', /Start it again/],
    [22, 'ERR_NETVERDICT_DRIVER_SHUTDOWN', /Start it again/],
    [38, 'ERR_NETVERDICT_DRIVER_SHUTDOWN', /Start it again/],
    [1167, 'ERR_NETVERDICT_DRIVER_SHUTDOWN', /Start it again/],
    [1617, 'ERR_NETVERDICT_DRIVER_SHUTDOWN', /Start it again/],
    [32, 'ERR_NETVERDICT_BUSY', /Close it there/],
    [170, 'ERR_NETVERDICT_BUSY', /Close it there/],
    [548, 'ERR_NETVERDICT_BUSY', /Close it there/],
    [1, 'ERR_NETVERDICT_UNSUPPORTED', /Update the driver/],
    [50, 'ERR_NETVERDICT_UNSUPPORTED', /Update the driver/],
    [122, 'ERR_NETVERDICT_UNSUPPORTED', /Update the library/],
    [87, 'ERR_NETVERDICT_INVALID_ARGUMENT', /getLogs/],
    [123, 'ERR_NETVERDICT_INVALID_ARGUMENT', /path/],
    [161, 'ERR_NETVERDICT_INVALID_ARGUMENT', /path/],
    [31, 'ERR_NETVERDICT_DEVICE', /NTSTATUS/],
    [110, 'ERR_NETVERDICT_DEVICE', /Restart/],
    [121, 'ERR_NETVERDICT_DEVICE', /Restart/],
    [1117, 'ERR_NETVERDICT_DEVICE', /Restart/],
    [1460, 'ERR_NETVERDICT_DEVICE', /Restart/],
  ])(
    'that the addon made of Win32 error %i becomes %s, and the message says what to do next',
    (error, code, hint) => {
      const status = FROM_WIN32.get(error)!;
      expect(statusError(status, 'Doing it').code).toBe(code);
      expect(statusError(status, 'Doing it').message).toMatch(hint);
    },
  );

  it('is in the cause of its error', () => {
    expect(statusError(0xc0000022 | 0, 'Doing it').cause).toMatchObject({
      message: 'The request failed with NTSTATUS 0xc0000022',
      status: 0xc0000022,
    });
  });

  it('that stands for a Win32 error shows the Win32 number', () => {
    const error = statusError(0xc0070000 + 317, 'Doing it');
    expect(error.code).toBe('ERR_NETVERDICT_DEVICE');
    expect(error.message).toContain("error 317. 'net helpmsg 317'");
    expect(error.cause).toMatchObject({ errno: 317 });
  });

  it('that the addon threw becomes the same error', () => {
    const thrown = Object.assign(new Error('raw'), { status: 0xc0000038 });
    const error = nativeError(thrown, 'Opening it') as Error;
    expect(error).toBeInstanceOf(BusyError);
    expect(error.message).toMatch(/^Opening it: another client/);
    const other = new TypeError('no status');
    expect(nativeError(other, 'Opening it')).toBe(other);
  });

  it('without a class is shown as its number', () => {
    expect(statusError(0xc0000001, 'Doing it').message).toContain('0xc0000001');
  });

  it('is a success unless its sign bit is set', () => {
    expect([0, 0x103, 0x40000000].map(isSuccess)).toEqual([true, true, true]);
    expect([0x80000005, 0xc0000001, -1].map(isSuccess)).toEqual([false, false, false]);
  });
});
