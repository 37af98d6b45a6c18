import { describe, expect, it } from 'vitest';
import { isSuccess, statusError } from '../../lib/status.js';

describe('a status of the kernel', () => {
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

  it('without a class of its own is shown as its number', () => {
    expect(statusError(0xc0000001, 'Doing it').message).toContain('0xc0000001');
  });

  it('is a success unless its sign bit is set', () => {
    expect([0, 0x103, 0x40000000].map(isSuccess)).toEqual([true, true, true]);
    expect([0x80000005, 0xc0000001, -1].map(isSuccess)).toEqual([false, false, false]);
  });
});
