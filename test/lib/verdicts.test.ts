import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  AlreadyDecidedError,
  ClosedError,
  DriverShutdownError,
  InvalidArgumentError,
} from '../../lib/base/errors.js';
import type { ConnectionEvent } from '../../lib/codec/events.js';
import { Verdict } from '../../lib/codec/verdicts.js';
import { Status } from '../../lib/device/status.js';
import { connection } from './support/records.js';
import { nextTurn, scriptedDevice, type ScriptedNative } from './support/scripted_device.js';

/** Every written verdict, in order. */
function verdictsOf(native: ScriptedNative): [id: bigint, verdict: number][] {
  return native.writes.flatMap((write) => {
    const commands = Buffer.from(write);
    return Array.from({ length: write.length / 10 }, (_, index): [bigint, number] => {
      if (commands[10 * index] !== 1) throw new Error('This is not a verdict.');
      return [commands.readBigUInt64LE(10 * index + 1), commands[10 * index + 9]!];
    });
  });
}

describe('setVerdict', () => {
  it('writes all verdicts of one tick at its end, in order', async () => {
    const { device, native } = scriptedDevice();
    device.setVerdict(1n, Verdict.Accept);
    device.setVerdict(0xffff_ffff_ffff_ffffn, Verdict.Drop);
    expect(native.writes).toHaveLength(0);
    await nextTurn();
    expect(native.writes).toHaveLength(1);
    expect(verdictsOf(native)).toEqual([
      [1n, Verdict.Accept],
      [0xffff_ffff_ffff_ffffn, Verdict.Drop],
    ]);
  });

  it('writes once for a loop that decides every event', async () => {
    const { device, native } = scriptedDevice();
    for (let read = 0n; read < 3n; read++) {
      native.feed(connection({ id: 2n * read + 1n }), connection({ id: 2n * read + 2n }));
    }
    let decided = 0;
    for await (const event of device.events({ types: ['connection'] })) {
      event.accept();
      if (++decided === 6) break;
    }
    await nextTurn();
    expect(native.writes).toHaveLength(1);
    expect(verdictsOf(native).map(([id]) => id)).toEqual([1n, 2n, 3n, 4n, 5n, 6n]);
  });

  it('writes again for a later tick', async () => {
    const { device, native } = scriptedDevice();
    device.setVerdict(1n, Verdict.Accept);
    await nextTurn();
    device.setVerdict(2n, Verdict.Accept);
    await nextTurn();
    expect(native.writes).toHaveLength(2);
  });

  it('writes at most as many verdicts at once as the driver accepts', async () => {
    const { device, native } = scriptedDevice({ maxCommandsPerWrite: 4 });
    for (let id = 1n; id <= 10n; id++) device.setVerdict(id, Verdict.Accept);
    await nextTurn();
    expect(native.writes.map((write) => write.length)).toEqual([40, 40, 20]);
  });

  it('writes each verdict alone to a driver that accepts one command per write', async () => {
    const { device, native } = scriptedDevice({ isBase: true });
    for (let id = 1n; id <= 3n; id++) device.setVerdict(id, Verdict.Accept);
    await nextTurn();
    expect(native.writes.map((write) => write.length)).toEqual([10, 10, 10]);
  });

  it('writes each verdict alone to a driver that claims to accept none', async () => {
    const { device, native } = scriptedDevice({ maxCommandsPerWrite: 0 });
    for (let id = 1n; id <= 3n; id++) device.setVerdict(id, Verdict.Accept);
    await nextTurn();
    expect(native.writes.map((write) => write.length)).toEqual([10, 10, 10]);
  });

  it('keeps every verdict of a tick with very many', async () => {
    const { device, native } = scriptedDevice();
    const count = 200_000n;
    for (let id = 1n; id <= count; id++) device.setVerdict(id, Verdict.Accept);
    await nextTurn();
    const ids = verdictsOf(native).map(([id]) => id);
    expect(ids).toHaveLength(Number(count));
    expect(ids.every((id, index) => id === BigInt(index + 1))).toBe(true);
  });

  it('reaches the driver before a later command', () => {
    const { device, native } = scriptedDevice();
    device.setVerdict(1n, Verdict.Accept);
    device.clearCache();
    expect(native.commandsWritten).toEqual([1, 4]);
  });

  it.each([
    ['an id that is not a bigint', 1 as unknown as bigint, Verdict.Accept],
    ['the id 0', 0n, Verdict.Accept],
    ['an unknown verdict', 1n, 12 as Verdict],
    ['a verdict that decides nothing', 1n, Verdict.Undecided],
  ])('refuses %s', (_, id, verdict) => {
    const { device } = scriptedDevice();
    expect(() => {
      device.setVerdict(id, verdict);
    }).toThrow(InvalidArgumentError);
  });
});

describe('a second verdict', () => {
  it('is refused and not written, and the error says what to do instead', async () => {
    const { device, native } = scriptedDevice();
    device.setVerdict(7n, Verdict.Accept);
    expect(() => {
      device.setVerdict(7n, Verdict.Block);
    }).toThrow(AlreadyDecidedError);
    expect(() => {
      device.setVerdict(7n, Verdict.Block);
    }).toThrow(/Connection 7 already has a verdict.*updateVerdict/);
    await nextTurn();
    expect(verdictsOf(native)).toEqual([[7n, Verdict.Accept]]);
  });

  it('is refused for an id whose lower half is 0', () => {
    const { device } = scriptedDevice();
    device.setVerdict(7n, Verdict.Accept);
    device.setVerdict(7n + (1n << 32n), Verdict.Accept);
    expect(() => {
      device.setVerdict(7n + (1n << 32n), Verdict.Accept);
    }).toThrow(/4294967303/);
  });

  it.each([
    ['the event, after the id', (event: ConnectionEvent) => event.id, true],
    ['the id, after the event', (event: ConnectionEvent) => event.id, false],
  ])('is refused by %s', async (_, idOf, idFirst) => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 9n }));
    const { value } = await device.events({ types: ['connection'] }).next();
    const event = value!;
    const byId = (): void => {
      device.setVerdict(idOf(event), Verdict.Accept);
    };
    const byEvent = (): void => {
      event.block();
    };
    const [first, second] = idFirst ? [byId, byEvent] : [byEvent, byId];
    first();
    expect(second).toThrow(AlreadyDecidedError);
  });

  it('by the same event is refused after any number of other ids', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 1n }));
    const { value } = await device.events({ types: ['connection'] }).next();
    value!.accept();
    for (let id = 2n; id < 140_000n; id++) device.setVerdict(id, Verdict.Accept);
    expect(() => {
      value!.accept();
    }).toThrow(AlreadyDecidedError);
  });

  it('is detected for the last 131072 ids', () => {
    const { device } = scriptedDevice();
    for (let id = 1n; id <= 131_072n; id++) device.setVerdict(id, Verdict.Accept);
    expect(() => {
      device.setVerdict(1n, Verdict.Accept);
    }).toThrow(AlreadyDecidedError);
  });
});

describe('setVerdicts', () => {
  it('writes many verdicts at once', () => {
    const { device, native } = scriptedDevice();
    device.setVerdicts(
      new Map<bigint, Verdict>([
        [1n, Verdict.Accept],
        [2n, Verdict.Block],
      ]),
    );
    expect(native.writes).toHaveLength(1);
    expect(verdictsOf(native)).toEqual([
      [1n, Verdict.Accept],
      [2n, Verdict.Block],
    ]);
  });

  it.each([
    ['a value that is not iterable', 5, /Got 5\./],
    ['nothing', undefined, /Got undefined\./],
    ['ids without verdicts', [1n, 2n], /Got 1n\./],
  ])('refuses %s', (_, verdicts, message) => {
    const { device } = scriptedDevice();
    const set = (): void => {
      device.setVerdicts(verdicts as unknown as Iterable<[bigint, Verdict]>);
    };
    expect(set).toThrow(InvalidArgumentError);
    expect(set).toThrow(message);
  });

  it('writes the verdicts before the invalid one', () => {
    const { device, native } = scriptedDevice();
    expect(() => {
      device.setVerdicts([
        [1n, Verdict.Accept],
        [0n, Verdict.Accept],
        [2n, Verdict.Accept],
      ]);
    }).toThrow(InvalidArgumentError);
    expect(verdictsOf(native)).toEqual([[1n, Verdict.Accept]]);
  });
});

describe('when the stream fails while the driver runs', () => {
  it('verdicts of that tick and of later ones are written until close()', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 1n }), connection({ id: 2n }));
    native.finish('error', Status.IoTimeout);
    const { value: batch } = await device.batches().next();
    const [first, second] = batch as ConnectionEvent[];
    first!.accept();
    await expect(device.batches().next()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_DEVICE' });
    await nextTurn();
    second!.accept();
    device.setVerdict(3n, Verdict.Block);
    await device.close();
    expect(verdictsOf(native)).toEqual([
      [1n, Verdict.Accept],
      [2n, Verdict.Accept],
      [3n, Verdict.Block],
    ]);
    expect(() => {
      device.setVerdict(4n, Verdict.Accept);
    }).toThrow(ClosedError);
  });
});

describe('a verdict method of an event', () => {
  it.each<[string, (event: ConnectionEvent) => void]>([
    [
      'a flag instead of the options',
      (event) => {
        event.accept(true as never);
      },
    ],
    [
      'null',
      (event) => {
        event.drop(null as never);
      },
    ],
    [
      'a word instead of the flag',
      (event) => {
        event.block({ permanent: 'yes' as never });
      },
    ],
    [
      'a flag instead of the options of redirect',
      (event) => {
        event.redirect('tunnel', true as never);
      },
    ],
  ])('refuses %s and leaves the event undecided', async (_, decide) => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 9n }));
    const { value } = await device.events({ types: ['connection'] }).next();
    const event = value!;
    expect(() => {
      decide(event);
    }).toThrow(InvalidArgumentError);
    expect(() => {
      decide(event);
    }).toThrow(/permanent: true/);
    event.accept();
    await nextTurn();
    expect(verdictsOf(native)).toEqual([[9n, Verdict.Accept]]);
  });
});

describe('a late verdict', () => {
  it('is refused once the device is closed', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection());
    const { value } = await device.events({ types: ['connection'] }).next();
    await device.close();
    expect(() => {
      device.setVerdict(2n, Verdict.Accept);
    }).toThrow(ClosedError);
    expect(() => {
      value!.accept();
    }).toThrow(ClosedError);
  });

  it('is written by close() if it was given before', async () => {
    const { device, native } = scriptedDevice();
    device.setVerdict(1n, Verdict.Accept);
    await device.close();
    expect(verdictsOf(native)).toEqual([[1n, Verdict.Accept]]);
  });

  it('has no effect once the driver has shut down', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 1n }), connection({ id: 2n }));
    native.finish('eof');
    for await (const event of device.events({ types: ['connection'] })) {
      if (event.id === 2n) event.accept();
    }
    device.setVerdict(3n, Verdict.Accept);
    await nextTurn();
    expect(native.writes).toHaveLength(0);
  });

  it('is harmless when the driver has shut down but the stream has not ended yet', async () => {
    const { device, native } = scriptedDevice();
    native.writeStatus = Status.InvalidDeviceState;
    device.setVerdict(1n, Verdict.Accept);
    await nextTurn();
    native.feed(connection());
    expect(await device.events().next()).toMatchObject({ done: false });
  });

  it('that the driver fails to take ends the stream with the reason', async () => {
    const { device, native } = scriptedDevice();
    const next = device.events().next();
    native.writeStatus = Status.IoTimeout;
    device.setVerdict(1n, Verdict.Accept);
    await expect(next).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_DEVICE',
      message: expect.stringMatching(/^Writing verdicts: the driver did not answer/) as string,
    });
    expect(() => {
      device.clearCache();
    }).toThrow(DriverShutdownError);
  });

  it('that could not be written for lack of memory is written once there is memory', async () => {
    const { device, native } = scriptedDevice({ maxCommandsPerWrite: 2 });
    native.writeStatus = Status.InsufficientResources;
    device.setVerdicts([1n, 2n, 3n].map((id) => [id, Verdict.Accept]));
    expect(() => {
      device.clearCache();
    }).toThrow(/clear-cache: the system is out of memory/);
    expect(native.writes).toHaveLength(0);
    native.writeStatus = Status.Success;
    await expect.poll(() => verdictsOf(native).map(([id]) => id)).toEqual([1n, 2n, 3n]);
    device.setVerdict(4n, Verdict.Accept);
    await nextTurn();
    expect(verdictsOf(native).map(([id]) => id)).toEqual([1n, 2n, 3n, 4n]);
  });

  it('that could not be written for lack of memory is kept, in any number', () => {
    const { device, native } = scriptedDevice();
    native.writeStatus = Status.InsufficientResources;
    const ids = Array.from({ length: 70_000 }, (_, index) => BigInt(index + 1));
    device.setVerdicts(ids.map((id) => [id, Verdict.Accept]));
    native.writeStatus = Status.Success;
    device.clearCache();
    native.writes.pop();
    expect(verdictsOf(native).map(([id]) => id)).toEqual(ids);
  });

  it('that cannot be written for lack of memory for long ends the stream with the reason', async () => {
    const now = vi.spyOn(performance, 'now');
    onTestFinished(() => {
      now.mockRestore();
    });
    const { device, native } = scriptedDevice();
    native.writeStatus = Status.InsufficientResources;
    let reason: unknown;
    device
      .events()
      .next()
      .catch((error: unknown) => (reason = error));
    device.setVerdict(1n, Verdict.Accept);
    await nextTurn();
    expect(reason).toBeUndefined();
    now.mockReturnValue(performance.now() + 5000);
    await expect
      .poll(() => reason)
      .toMatchObject({
        message: expect.stringMatching(/^Writing verdicts: the system is out of memory/) as string,
      });
    expect(native.writes).toHaveLength(0);
  });
});

describe('updateVerdict', () => {
  it('accepts an event as the connection', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ protocol: 17, remotePort: 53 }));
    const { value } = await device.events({ types: ['connection'] }).next();
    device.updateVerdict(value!, Verdict.PermanentBlock);
    expect(Buffer.from(native.writes[0]!).toString('hex')).toBe('0211c000020a00c0c6336401350005');
  });

  it('refuses a value that is not a connection', () => {
    const { device } = scriptedDevice();
    const update = (): void => {
      device.updateVerdict(undefined as never, Verdict.Accept);
    };
    expect(update).toThrow(InvalidArgumentError);
    expect(update).toThrow(/undefined is not a connection/);
  });
});
