import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError, ProtocolError } from '../../lib/base/errors.js';
import type { ConnectionEvent, EventType, NetVerdictEvent } from '../../lib/codec/events.js';
import { Status } from '../../lib/device/status.js';
import {
  bytes,
  connection,
  connectionEnd,
  log,
  lost,
  processInfo,
  record,
  replyEnd,
  timeout,
  u32,
  u8,
} from './support/records.js';
import { nextTurn, scriptedDevice } from './support/scripted_device.js';

function connections(first: bigint, count: number): Uint8Array {
  return bytes(...Array.from({ length: count }, (_, n) => connection({ id: first + BigInt(n) })));
}

function idOf(event: NetVerdictEvent | undefined): bigint {
  return (event as ConnectionEvent).id;
}

async function take<T>(iterator: AsyncIterator<T, undefined>, count: number): Promise<T[]> {
  const items: T[] = [];
  while (items.length < count) {
    const { value, done } = await iterator.next();
    if (done === true) break;
    items.push(value);
  }
  return items;
}

async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of iterable) items.push(item);
  return items;
}

type Scripted = ReturnType<typeof scriptedDevice>;

const CORRUPT = bytes(u8(1), u32(0x7fff_ffff));

describe('an iterator over events', () => {
  it('gives each event in order, even if reads split a record', async () => {
    const { device, native } = scriptedDevice();
    const stream = connections(1n, 3);
    native.feed(stream.subarray(0, 50));
    native.feed(stream.subarray(50, 51));
    native.feed(stream.subarray(51));
    const events = await take(device.events(), 3);
    expect(events.map(idOf)).toEqual([1n, 2n, 3n]);
  });

  it('waits for the next event', async () => {
    const { device, native } = scriptedDevice();
    const next = device.events().next();
    await nextTurn();
    native.feed(connections(5n, 1));
    expect(idOf((await next).value)).toBe(5n);
  });

  it('resolves several next() calls in order', async () => {
    const { device, native } = scriptedDevice();
    const iterator = device.events();
    const pending = [iterator.next(), iterator.next(), iterator.next()];
    await nextTurn();
    native.feed(connections(1n, 2));
    await nextTurn();
    native.finish('eof');
    const results = await Promise.all(pending);
    expect(results.map(({ value }) => value && idOf(value))).toEqual([1n, 2n, undefined]);
    expect(results.map(({ done }) => done)).toEqual([false, false, true]);
  });

  it('does not give records that only the device needs', async () => {
    const { device, native } = scriptedDevice();
    native.feed(processInfo(42n, 'p'), replyEnd(5, 1n), connections(1n, 1), replyEnd(1, 1n));
    native.finish('eof');
    expect((await all(device)).map((event) => event.type)).toEqual(['connection']);
  });

  it('gives events of the chosen types', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 1), connectionEnd(), timeout(1n), log(3, 'x'), record(99));
    native.finish('eof');
    const types: EventType[] = [];
    for await (const event of device.events({ types: ['connection-end', 'unknown'] })) {
      types.push(event.type);
    }
    expect(types).toEqual(['connection-end', 'unknown']);
  });

  it('gives losses as events without a warning if it gives all types', async () => {
    const { device, native } = scriptedDevice();
    native.feed(lost(3n, 2));
    const [event] = await take(device.events(), 1);
    expect(event).toMatchObject({ type: 'lost', count: 3n, reason: 'held-packet-limit' });
  });

  it('refuses unknown types', () => {
    const { device } = scriptedDevice();
    expect(() => device.events({ types: ['conection' as 'connection'] })).toThrow(
      InvalidArgumentError,
    );
  });

  it('continues after a malformed record', async () => {
    const { device, native } = scriptedDevice();
    native.feed(record(3, new Uint8Array(2)), connections(8n, 1));
    const [malformed, event] = await take(device.events(), 2);
    expect(malformed).toMatchObject({ type: 'protocol-error', recordType: 3 });
    expect((malformed as { error: unknown }).error).toBeInstanceOf(ProtocolError);
    expect(idOf(event)).toBe(8n);
  });
});

describe('losses that iterators skip', () => {
  const warn = vi.spyOn(process, 'emitWarning');
  const warnings = (): unknown[] => warn.mock.calls.map(([text]) => text);

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    warn.mockReset().mockImplementation(() => undefined);
  });

  afterEach(() => {
    vi.useRealTimers();
    warn.mockReset();
  });

  /** Reads the records with an iterator that skips losses. */
  async function skipLosses({ device, native }: Scripted, ...records: Uint8Array[]): Promise<void> {
    native.feed(...records, connections(1n, 1));
    await take(device.events({ types: ['connection'] }), 1);
  }

  it('warn with their reason, their process and a cure', async () => {
    await skipLosses(scriptedDevice(), lost(3n, 4, 4242n));
    expect(warn).toHaveBeenCalledExactlyOnceWith(
      expect.stringMatching(
        /lost 3 records \(connection-limit, process 4242\).*raise maxConnections/i,
      ),
      { code: 'NETVERDICT_EVENTS_LOST' },
    );
  });

  it('warn at once, and then once a second with the sum', async () => {
    const scripted = scriptedDevice();
    await skipLosses(scripted, ...Array.from({ length: 15_475 }, () => lost(2n, 4, 7n)));
    expect(warnings()).toEqual([
      expect.stringContaining('lost 2 records (connection-limit, process 7)'),
    ]);
    vi.advanceTimersByTime(999);
    expect(warnings()).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(warnings()).toHaveLength(2);
    expect(warnings()[1]).toContain('lost 30948 records (connection-limit, process 7)');
    vi.advanceTimersByTime(60_000);
    expect(warnings()).toHaveLength(2);
    await skipLosses(scripted, lost(1n, 1));
    expect(warnings()[2]).toContain('lost 1 records (event-queue-full)');
  });

  it('have a sum and a cure for each reason, and a process only if it is the same one', async () => {
    await skipLosses(
      scriptedDevice(),
      lost(1n, 3),
      lost(1n, 1, 7n),
      lost(4n, 5, 7n),
      lost(2n, 1, 8n),
    );
    vi.advanceTimersByTime(1000);
    expect(warnings()[1]).toMatch(
      /lost 3 records \(event-queue-full\), 4 records \(owner-share, process 7\).*maxQueuedBytes.*end or block/,
    );
  });

  it('count once, whatever number of iterators skips them', async () => {
    const { device, native } = scriptedDevice();
    const iterators = [1, 2, 3].map(() => device.events({ types: ['connection'] }));
    const items = iterators.map((iterator) => take(iterator, 1));
    native.feed(lost(1n, 1), lost(5n, 1), connections(1n, 1));
    await Promise.all(items);
    vi.advanceTimersByTime(1000);
    expect(warnings()).toEqual([
      expect.stringContaining('lost 1 records'),
      expect.stringContaining('lost 5 records'),
    ]);
  });

  it('warn before the device is closed', async () => {
    const scripted = scriptedDevice();
    await skipLosses(scripted, lost(1n, 1), lost(5n, 1));
    await scripted.device.close();
    expect(warnings()).toHaveLength(2);
    vi.advanceTimersByTime(60_000);
    expect(warnings()).toHaveLength(2);
  });
});

describe('several iterators', () => {
  it('each give every event from where they started', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 2));
    const first = device.events();
    const second = device.events();
    expect((await take(first, 1)).map(idOf)).toEqual([1n]);
    const late = second.next();
    native.feed(connections(3n, 2));
    expect((await take(first, 3)).map(idOf)).toEqual([2n, 3n, 4n]);
    expect(idOf((await late).value)).toBe(3n);
    expect((await take(second, 1)).map(idOf)).toEqual([4n]);
  });

  it('wake together', async () => {
    const { device, native } = scriptedDevice();
    const waiting = [device.events().next(), device.events().next(), device.batches().next()];
    await nextTurn();
    native.feed(connections(1n, 1));
    const results = await Promise.all(waiting);
    expect(results.every(({ done }) => done === false)).toBe(true);
  });

  it('wait for the slowest once its backlog is full', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    for (let read = 0n; read < 10n; read++) native.feed(connections(1n + read * 500n, 500));
    const slow = device.events();
    const fast = device.events();
    const slowFirst = slow.next();
    const fastFirst = fast.next();
    await Promise.all([slowFirst, fastFirst]);
    const stuck = take(fast, 5000);
    await nextTurn();
    await nextTurn();
    expect(native.taken).toBeLessThan(10);
    expect((await take(slow, 4999)).map(idOf).at(-1)).toBe(5000n);
    native.finish('eof');
    expect(await stuck).toHaveLength(4499);
  });
});

describe('leaving an iterator', () => {
  it('that was too far behind lets the others continue', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    for (let read = 0n; read < 10n; read++) native.feed(connections(1n + read * 500n, 500));
    const slow = device.events();
    const fast = device.events();
    await Promise.all([slow.next(), fast.next()]);
    const stuck = take(fast, 4499);
    await nextTurn();
    await nextTurn();
    expect(native.taken).toBeLessThan(10);
    await slow.return!();
    expect((await stuck).map(idOf).at(-1)).toBe(5000n);
  });

  it('leaves its remaining events to the next one', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 4));
    for await (const event of device) {
      if (idOf(event) === 2n) break;
    }
    expect((await take(device.events(), 2)).map(idOf)).toEqual([3n, 4n]);
  });

  it('leaves the rest of a batch to the next one', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 4));
    for await (const event of device) {
      if (idOf(event) === 3n) break;
    }
    const [batch] = await take(device.batches(), 1);
    expect(batch!.map(idOf)).toEqual([4n]);
  });

  it('ends it for good, with every pending next()', async () => {
    const { device, native } = scriptedDevice();
    const iterator = device.events();
    const waiting = iterator.next();
    expect(await iterator.return!()).toEqual({ value: undefined, done: true });
    expect(await waiting).toEqual({ value: undefined, done: true });
    native.feed(connections(1n, 1));
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
  });

  it('works before its first next()', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 1));
    const iterator = device.events();
    await iterator.return!();
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    expect((await take(device.events(), 1)).map(idOf)).toEqual([1n]);
  });
});

describe('batches', () => {
  it('have the events of one read each', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 3));
    native.feed(connections(4n, 2));
    native.finish('eof');
    const batches = await all(device.batches());
    expect(batches.map((batch) => batch.map(idOf))).toEqual([
      [1n, 2n, 3n],
      [4n, 5n],
    ]);
  });

  it('are never empty', async () => {
    const { device, native } = scriptedDevice();
    native.feed(replyEnd(5, 1n));
    native.feed(connections(1n, 1));
    const [batch] = await take(device.batches(), 1);
    expect(batch).toHaveLength(1);
  });
});

describe('the end of the stream', () => {
  it('by the driver’s shutdown comes after the queued events, and ends every iterator', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 2));
    native.finish('eof');
    expect((await all(device)).map(idOf)).toEqual([1n, 2n]);
    expect(await all(device)).toEqual([]);
  });

  it('by close() ends iterators that wait, and iterators that do not', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 2));
    const iterator = device.events();
    await take(iterator, 1);
    const other = device.events();
    const waiting = other.next();
    await device.close();
    expect(await waiting).toEqual({ value: undefined, done: true });
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    expect(await all(device)).toEqual([]);
    expect(native.isClosed).toBe(true);
  });

  it('by a corrupt record comes after the events before it, for every iterator', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 1), CORRUPT);
    const iterator = device.events();
    const other = device.events();
    const waiting = [iterator.next(), iterator.next(), iterator.next(), other.next(), other.next()];
    const results = await Promise.allSettled(waiting);
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(results[1]).toMatchObject({ reason: { code: 'ERR_NETVERDICT_PROTOCOL' } });
    await expect(all(device)).rejects.toBeInstanceOf(ProtocolError);
  });

  it('within a record is an error', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connections(1n, 2).subarray(0, 70));
    native.finish('eof');
    const iterator = device.events();
    expect(idOf((await iterator.next()).value)).toBe(1n);
    await expect(iterator.next()).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_PROTOCOL',
      message: expect.stringMatching(
        /has ended within a record, 30 bytes after its beginning/,
      ) as string,
    });
  });

  it('by a failed read has the reason', async () => {
    const { device, native } = scriptedDevice();
    native.finish('error', Status.InsufficientResources);
    await expect(all(device)).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_DEVICE',
      message: expect.stringMatching(/^Reading events: the system is out of memory/) as string,
    });
  });
});

describe('an aborted signal', () => {
  const reason = new Error('enough');

  it('ends a waiting iterator with its reason, and no other iterator', async () => {
    const { device, native } = scriptedDevice();
    const controller = new AbortController();
    const iterator = device.events({ signal: controller.signal });
    const waiting = iterator.next();
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    native.feed(connections(1n, 1));
    expect((await take(device.events(), 1)).map(idOf)).toEqual([1n]);
  });

  it('ends an iterator between two events with its reason', async () => {
    const { device, native } = scriptedDevice();
    const controller = new AbortController();
    native.feed(connections(1n, 3));
    const iterator = device.batches({ signal: controller.signal });
    await iterator.next();
    controller.abort(reason);
    await expect(iterator.next()).rejects.toBe(reason);
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
  });

  it('ends an iterator before its first event', async () => {
    const { device } = scriptedDevice();
    await expect(device.events({ signal: AbortSignal.abort(reason) }).next()).rejects.toBe(reason);
  });

  it('given to open() closes the device and ends its iterators with its reason', async () => {
    const controller = new AbortController();
    const { device, native } = scriptedDevice({}, { signal: controller.signal });
    const waiting = device.events().next();
    const logs = device.getLogs();
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(logs).rejects.toBe(reason);
    expect(device.closed).toBe(true);
    expect(native.isClosed).toBe(true);
    await device.close();
  });

  it('given to open() has no effect once the device is closed', async () => {
    const controller = new AbortController();
    const { device } = scriptedDevice({}, { signal: controller.signal });
    await device.close();
    controller.abort(reason);
    expect(await all(device)).toEqual([]);
  });
});

describe('the event loop', () => {
  it('turns even if an event is always available', async () => {
    const { device, native } = scriptedDevice();
    const read = connections(1n, 1600);
    for (let n = 0; n < 40; n++) native.feed(read);
    native.finish('eof');
    let turned = 0;
    const count = (): void => {
      turned += 1;
      timer = setImmediate(count);
    };
    let timer = setImmediate(count);
    await all(device);
    clearImmediate(timer);
    expect(turned).toBeGreaterThan(2);
  });
});

describe('an event that is not read', () => {
  it('stays in the driver until an iterator needs it', async () => {
    const { native } = scriptedDevice();
    native.feed(connections(1n, 1));
    await nextTurn();
    expect(native.taken).toBe(0);
  });

  it('does not keep the device alive, but a pending next() does', async () => {
    const { device, anchor } = scriptedDevice();
    expect(anchor.isHolding).toBe(false);
    const iterator = device.events();
    const waiting = iterator.next();
    expect(anchor.isHolding).toBe(true);
    await iterator.return!();
    await waiting;
    expect(anchor.isHolding).toBe(false);
  });
});

describe('the cost of waiting', () => {
  const MANY = 200_000;

  /** The seconds of processor time that `work` takes. */
  async function secondsOf(work: () => Promise<void>): Promise<number> {
    const before = process.cpuUsage();
    await work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  }

  it('of 200,000 pending calls of next() is proportional to their number', async () => {
    const { device, native } = scriptedDevice();
    const iterator = device.events();
    const seconds = await secondsOf(async () => {
      const pending = Array.from({ length: MANY }, () => iterator.next());
      native.feed(connections(1n, 1));
      await pending[0];
      await iterator.return?.();
      expect((await pending.at(-1))?.done).toBe(true);
    });
    expect(seconds).toBeLessThan(4);
  });

  it('of 20,000 waiting iterators is proportional to their number', async () => {
    const { device, native } = scriptedDevice();
    const seconds = await secondsOf(async () => {
      const pending = Array.from({ length: 20_000 }, () => device.events().next());
      native.feed(connections(1n, 1));
      const ids = (await Promise.all(pending)).map(({ value }) => value && idOf(value));
      expect(new Set(ids)).toEqual(new Set([1n]));
    });
    expect(seconds).toBeLessThan(4);
  });

  it('of 50,000 pending requests is proportional to their number', async () => {
    const { device, native } = scriptedDevice();
    const seconds = await secondsOf(async () => {
      const pending = Array.from({ length: 50_000 }, () => device.getLogs());
      native.feed(log(3, 'x'), replyEnd(5, 1n), lost(1n, 1), lost(1n, 1));
      expect(await pending[0]).toHaveLength(1);
      expect(await pending.at(-1)).toEqual([]);
    });
    expect(seconds).toBeLessThan(4);
  }, 120_000);
});

describe('a long read', () => {
  it('is decoded in several turns of the event loop', async () => {
    const { device, native } = scriptedDevice();
    native.feed(bytes(...Array.from({ length: 200 }, () => connections(1n, 200))));
    const iterator = device.batches();
    const first = (await iterator.next()).value;
    expect(first!.length).toBeLessThan(2000);
    let turns = 0;
    let count = first!.length;
    const counting = new AbortController();
    void (async () => {
      for (; !counting.signal.aborted; turns += 1) await nextTurn();
    })();
    while (count < 40_000) count += (await iterator.next()).value!.length;
    counting.abort();
    expect(turns).toBeGreaterThan(1);
  });

  it('gives every event once, also a record of many pieces', async () => {
    const { device, native } = scriptedDevice();
    const payload = new Uint8Array(5_000_000).fill(7);
    native.feed(connections(1n, 3), connection({ id: 4n, payload }), connections(5n, 3));
    native.finish('eof');
    const events = (await all(device)) as ConnectionEvent[];
    expect(events.map(idOf)).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n]);
    expect(events[3]!.payloadLength).toBe(payload.length);
  });
});
