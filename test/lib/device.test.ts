import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { NetVerdictError, UnsupportedError } from '../../lib/base/errors.js';
import type { BandwidthEntry } from '../../lib/codec/events.js';
import { Ioctl } from '../../lib/codec/wire.js';
import type { OpenOptions } from '../../lib/device/options.js';
import { Status } from '../../lib/device/status.js';
import { bandwidth, bytes, connection, log, lost, record, replyEnd } from './support/records.js';
import { nextTurn, scriptedDevice, type ScriptedNative } from './support/scripted_device.js';

const GET_LOGS = 5;
const GET_BANDWIDTH = 6;

const ENTRY = {
  localAddress: '192.0.2.10',
  localPort: 1,
  remoteAddress: '198.51.100.1',
  remotePort: 2,
  transmittedBytes: 10n,
  receivedBytes: 20n,
};

function codes(native: ScriptedNative): number[] {
  return native.controls.map(({ code }) => code);
}

describe('a device', () => {
  it('sends its options to a driver with the extension', () => {
    const { device, native } = scriptedDevice({}, { payloadLimit: 77 });
    expect(codes(native)).toEqual([Ioctl.Version, Ioctl.GetCapabilities, Ioctl.SetOptions]);
    expect(Buffer.from(native.controls[2]!.input).readUInt32LE(8)).toBe(77);
    expect(device.capabilities()).toMatchObject({ protocolExtension: 1 });
    expect(device.version()).toEqual({ major: 2, minor: 1, revision: 0, build: 0 });
  });

  it.each([
    ['extension 1', { protocolExtension: 1, featureBits: 0xfn }, 32, 0x1],
    ['extension 2 without these flags', { protocolExtension: 2, featureBits: 0xfn }, 40, 0x1],
    ['extension 2', { protocolExtension: 2, featureBits: 0x20fn }, 40, 0x11],
  ])('permits loopback by default, where the driver can: %s', (_, script, length, flags) => {
    const options = Buffer.from(scriptedDevice(script).native.controls[2]!.input);
    expect(options).toHaveLength(length);
    expect(options.readUInt32LE(4)).toBe(flags);
    const asking = scriptedDevice(script, { loopback: 'ask' }).native.controls[2]!.input;
    expect(Buffer.from(asking).readUInt32LE(4)).toBe(0x1);
  });

  it('refuses to permit loopback with a driver that cannot, if the application asked for it', () => {
    const open = (): unknown => scriptedDevice({}, { loopback: 'permit' });
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow(/loopback/);
  });

  it.each([
    ['a driver that can', 0x20fn | 0x20n, { maxConnections: 4096 }, 4096],
    ['a driver that can, by default', 0x20fn | 0x20n, {}, 1_048_576],
    ['a driver that cannot, which keeps its own', 0x20fn, {}, 0],
  ])('limits the connections of %s', (_, featureBits, options, expected) => {
    const { native } = scriptedDevice({ protocolExtension: 2, featureBits }, options);
    expect(Buffer.from(native.controls[2]!.input).readUInt32LE(36)).toBe(expected);
  });

  it.each([
    ['a driver that waits no longer for a client that hangs', 0x20fn | 0x10n, {}, 5000],
    ['such a driver, as the application asked for', 0x20fn | 0x10n, { stallTimeoutMs: 0 }, 0],
    ['a driver that waits for it', 0x20fn, {}, 0],
  ])('sets the stall timeout of %s', (_, featureBits, options, expected) => {
    const { native } = scriptedDevice({ protocolExtension: 2, featureBits }, options);
    expect(Buffer.from(native.controls[2]!.input).readUInt32LE(32)).toBe(expected);
  });

  it('refuses to set the stall timeout of a driver that has none', () => {
    const open = (): unknown => scriptedDevice({}, { stallTimeoutMs: 1000 });
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow(/Leave out stallTimeoutMs/);
  });

  it('refuses to limit the connections of a driver that cannot', () => {
    const open = (): unknown => scriptedDevice({}, { maxConnections: 4096 });
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow(/Leave out maxConnections/);
  });

  it('begins to read once its options are set, because reads of a base client keep their thread', () => {
    const { native } = scriptedDevice();
    expect(native.controlsBeforeStart).toContain(Ioctl.SetOptions);
    expect(scriptedDevice({ isBase: true }).native.controlsBeforeStart).toBeDefined();
  });

  it('refuses options for a driver with the base protocol, and names each', () => {
    const { native } = scriptedDevice({ isBase: true });
    const options: OpenOptions = { failPolicy: 'open', pendingTimeoutMs: 5, highWaterMark: 1 };
    const open = (): unknown => scriptedDevice({ isBase: true }, options);
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow(/Leave out failPolicy, pendingTimeoutMs, or/);
    expect(codes(native)).not.toContain(Ioctl.SetOptions);
  });

  it('refuses a driver of another major version, and names both versions', () => {
    const open = (): unknown => scriptedDevice({ version: [3, 1, 4, 1] });
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow(/version 3\.1\.4\.1.*version 2/);
  });

  it('accepts a driver of a later minor version', () => {
    const { device } = scriptedDevice({ version: [2, 9, 0, 0] });
    expect(device.version()).toMatchObject({ major: 2, minor: 9 });
  });

  it('sends no options to a driver with the base protocol', async () => {
    const { device, native } = scriptedDevice({ isBase: true });
    expect(codes(native)).toEqual([Ioctl.Version, Ioctl.GetCapabilities]);
    expect(device.capabilities()).toBeUndefined();
    await expect(device.getStatistics()).rejects.toBeInstanceOf(UnsupportedError);
  });

  it.each([
    ['STATUS_INVALID_DEVICE_REQUEST', Status.InvalidDeviceRequest],
    ['STATUS_NOT_SUPPORTED', Status.NotSupported],
    ['STATUS_NOT_IMPLEMENTED', Status.NotImplemented],
    ['STATUS_INVALID_PARAMETER', Status.InvalidParameter],
  ])(
    'recognizes a driver with the base protocol that fails an unknown request with %s',
    (_, status) => {
      const { device } = scriptedDevice({ isBase: true, unknownRequest: status });
      expect(device.capabilities()).toBeUndefined();
      expect(device.version().major).toBe(2);
    },
  );

  it('fails to open if the driver fails a request for another reason', () => {
    const open = () => scriptedDevice({ isBase: true, unknownRequest: Status.IoTimeout });
    expect(open).toThrow(/Reading capabilities: .*in time/);
  });

  it('sends each command in its own write', () => {
    const { device, native } = scriptedDevice();
    device.clearCache();
    device.cleanEndedConnections();
    device.printMemoryStats();
    device.shutdown();
    expect(native.commandsWritten).toEqual([4, 8, 7, 0]);
  });

  it('reads the statistics', async () => {
    const { device } = scriptedDevice();
    expect((await device.getStatistics()).eventsQueued).toBe(0n);
  });

  it('refuses everything but closing once it is closed', async () => {
    const { device } = scriptedDevice();
    await Promise.all([device.close(), device.close()]);
    await device.close();
    const closed = { code: 'ERR_NETVERDICT_CLOSED' };
    for (const command of [
      () => {
        device.clearCache();
      },
      () => {
        device.shutdown();
      },
      () => {
        device.updateVerdict({ ...ENTRY, protocol: 6 }, 2);
      },
    ]) {
      expect(command).toThrow(expect.objectContaining(closed) as NetVerdictError);
    }
    await expect(device.getLogs()).rejects.toMatchObject(closed);
    await expect(device.getBandwidth()).rejects.toMatchObject(closed);
    await expect(device.getStatistics()).rejects.toMatchObject(closed);
  });

  it('refuses commands once the driver has shut down', async () => {
    const { device, native } = scriptedDevice();
    native.finish('eof');
    await device.events().next();
    expect(() => {
      device.clearCache();
    }).toThrow(/driver has shut down/);
    await expect(device.getLogs()).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_DRIVER_SHUTDOWN',
    });
  });

  it('gives the reason for a failed command', () => {
    const { device, native } = scriptedDevice();
    native.writeStatus = Status.InvalidParameter;
    expect(() => {
      device.clearCache();
    }).toThrow(/The command clear-cache: the driver rejected a value/);
  });

  it('is closed at the end of an await using block', async () => {
    const { native } = await (async () => {
      const scripted = scriptedDevice();
      await using device = scripted.device;
      expect(device.closed).toBe(false);
      return scripted;
    })();
    expect(native.isClosed).toBe(true);
  });
});

describe('getLogs', () => {
  it('gives the lines before the driver’s ReplyEnd, without an iterator', async () => {
    const { device, native } = scriptedDevice();
    const logs = device.getLogs();
    expect(native.commandsWritten).toEqual([GET_LOGS]);
    native.feed(log(3, 'one'), log(4, 'two'));
    native.feed(replyEnd(GET_LOGS, 1n), log(5, 'three'));
    expect((await logs).map(({ message }) => message)).toEqual(['one', 'two']);
    expect((await device.events().next()).value).toMatchObject({ type: 'log', message: 'three' });
  });

  it('keeps the events before the answer for the next iterator', async () => {
    const { device, native } = scriptedDevice();
    native.feed(connection({ id: 4n }));
    const logs = device.getLogs();
    native.feed(log(3, 'x'), replyEnd(GET_LOGS, 1n));
    expect(await logs).toHaveLength(1);
    expect((await device.events().next()).value).toMatchObject({ type: 'connection', id: 4n });
  });

  it('works beside an iterator, which gives no line of the answer', async () => {
    const { device, native } = scriptedDevice();
    const iterator = device.events();
    const next = iterator.next();
    await nextTurn();
    const logs = device.getLogs();
    native.feed(log(3, 'x'), connection({ id: 6n }), replyEnd(GET_LOGS, 1n));
    expect(await logs).toHaveLength(1);
    expect((await next).value).toMatchObject({ type: 'connection', id: 6n });
  });

  it('separates the answers of two calls', async () => {
    const { device, native } = scriptedDevice();
    const answers = Promise.all([device.getLogs(), device.getLogs()]);
    native.feed(log(3, '1'), replyEnd(GET_LOGS, 1n), log(3, '2'), replyEnd(GET_LOGS, 2n));
    const [first, second] = await answers;
    expect(first.map(({ message }) => message)).toEqual(['1']);
    expect(second.map(({ message }) => message)).toEqual(['2']);
  });

  it('ends with a later answer if its own ReplyEnd was lost', async () => {
    const { device, native } = scriptedDevice();
    const answers = Promise.all([device.getLogs(), device.getLogs()]);
    native.feed(log(3, '1'), lost(1n, 1), replyEnd(GET_LOGS, 2n));
    expect((await answers).map((lines) => lines.length)).toEqual([1, 0]);
  });

  it('resolves without a ReplyEnd if records were lost', async () => {
    const { device, native } = scriptedDevice();
    const logs = device.getLogs();
    native.feed(log(3, '1'), lost(1n, 1));
    expect(await logs).toHaveLength(1);
  });

  it('resolves after a quiet time with a driver without ReplyEnd', async () => {
    const { device, native } = scriptedDevice({ isBase: true });
    const logs = device.getLogs();
    native.feed(log(3, 'one'));
    await nextTurn();
    native.feed(log(3, 'two'));
    expect((await logs).map(({ message }) => message)).toEqual(['one', 'two']);
  });

  it('resolves after five seconds with such a driver that is never quiet', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { device, native } = scriptedDevice({ isBase: true });
    let lines: number | undefined;
    void device.getLogs().then(({ length }) => (lines = length));
    for (let time = 0; time < 4900; time += 50) {
      native.feed(log(3, 'x'));
      await nextTurn();
      vi.advanceTimersByTime(50);
    }
    expect(lines).toBeUndefined();
    for (let time = 0; time < 300; time += 50) {
      native.feed(log(3, 'x'));
      await nextTurn();
      vi.advanceTimersByTime(50);
    }
    await nextTurn();
    expect(lines).toBeGreaterThan(90);
  });

  it('sends one request at a time to a driver without ReplyEnd', async () => {
    const { device, native } = scriptedDevice({ isBase: true });
    const answers = [device.getLogs(), device.getLogs()];
    expect(native.commandsWritten).toEqual([GET_LOGS]);
    native.feed(log(3, 'one'));
    expect(await answers[0]).toHaveLength(1);
    expect(native.commandsWritten).toEqual([GET_LOGS, GET_LOGS]);
    expect(await answers[1]).toEqual([]);
  });

  it('is rejected by close()', async () => {
    const { device } = scriptedDevice();
    const logs = device.getLogs();
    await Promise.all([
      expect(logs).rejects.toMatchObject({ code: 'ERR_NETVERDICT_CLOSED' }),
      device.close(),
    ]);
  });

  it('is rejected by the driver’s shutdown', async () => {
    const { device, native } = scriptedDevice();
    const logs = device.getLogs();
    native.finish('eof');
    await expect(logs).rejects.toMatchObject({ code: 'ERR_NETVERDICT_DRIVER_SHUTDOWN' });
  });

  it('is rejected if too many events come before the answer and nothing reads them', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    const many = bytes(...Array.from({ length: 1000 }, () => connection()));
    for (let read = 0; read < 4; read++) native.feed(many);
    await expect(device.getLogs()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_BUSY' });
    const { value: batch } = await device.batches().next();
    expect(batch).toHaveLength(1000);
  });

  it('is rejected if the loop that reads awaits it and too many events come before the answer', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    const many = bytes(...Array.from({ length: 1000 }, () => connection()));
    for (let read = 0; read < 4; read++) native.feed(many);
    native.finish('eof');
    let events = 0;
    for await (const event of device) {
      if (++events > 1) continue;
      expect(event.type).toBe('connection');
      await expect(device.getLogs()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_BUSY' });
    }
    expect(events).toBe(4000);
  });

  it('can be called again once the events before the answer were read', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    const many = bytes(...Array.from({ length: 1000 }, () => connection()));
    for (let read = 0; read < 4; read++) native.feed(many);
    const iterator = device.batches();
    await iterator.next();
    await expect(device.getLogs()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_BUSY' });
    for (let read = 1; read < 4; read++) await iterator.next();
    const logs = device.getLogs();
    native.feed(log(3, 'x'), replyEnd(GET_LOGS, 2n));
    expect(await logs).toHaveLength(1);
  });

  it('resolves without a ReplyEnd if a record was malformed', async () => {
    const { device, native } = scriptedDevice();
    const logs = device.getLogs();
    native.feed(log(3, '1'), record(65, new Uint8Array(3)));
    expect(await logs).toHaveLength(1);
  });

  it('is rejected if its request fails, and does not block the next call', async () => {
    const { device, native } = scriptedDevice({ isBase: true });
    native.writeStatus = Status.InsufficientResources;
    await expect(device.getLogs()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_DEVICE' });
    native.writeStatus = Status.Success;
    native.feed(log(3, 'x'));
    expect(await device.getLogs()).toHaveLength(1);
  });
});

describe('getBandwidth', () => {
  it('collects the entries of every record of the answer', async () => {
    const { device, native } = scriptedDevice();
    const entries = device.getBandwidth();
    expect(native.commandsWritten).toEqual([GET_BANDWIDTH]);
    const v6 = { ...ENTRY, localAddress: '2001:db8::1', remoteAddress: '2001:db8::2' };
    native.feed(bandwidth(6, [ENTRY, ENTRY]), bandwidth(17, [v6]), replyEnd(GET_BANDWIDTH, 1n));
    expect(await entries).toMatchObject([
      { ...ENTRY, protocol: 6, ipVersion: 4 },
      { ...ENTRY, protocol: 6, ipVersion: 4 },
      { ...v6, protocol: 17, ipVersion: 6 },
    ]);
  });

  it('is separate from getLogs', async () => {
    const { device, native } = scriptedDevice();
    const logs = device.getLogs();
    const entries = device.getBandwidth();
    native.feed(replyEnd(GET_BANDWIDTH, 1n), log(3, 'x'), replyEnd(GET_LOGS, 1n));
    expect(await entries).toEqual([]);
    expect(await logs).toHaveLength(1);
  });

  it('collects any number of entries of one record', async () => {
    const { device, native } = scriptedDevice();
    const entries = device.getBandwidth();
    const many = Array.from({ length: 150_000 }, () => ENTRY);
    native.feed(bandwidth(6, many), replyEnd(GET_BANDWIDTH, 1n));
    expect(await entries).toHaveLength(many.length);
  });

  it.each([
    ['lost', lost(1n, 1)],
    ['malformed', record(65, new Uint8Array(3))],
  ])('resolves with what came if the record that ends the answer is %s', async (_, instead) => {
    const { device, native } = scriptedDevice();
    const entries = device.getBandwidth();
    native.feed(bandwidth(6, [ENTRY]), instead);
    await nextTurn();
    native.feed(bandwidth(17, [ENTRY]));
    expect((await entries).map(({ protocol }) => protocol)).toEqual([6, 17]);
  });

  it('that answers no call is an event', async () => {
    const { device, native } = scriptedDevice();
    native.feed(bandwidth(6, [ENTRY]));
    expect((await device.events().next()).value).toMatchObject({
      type: 'bandwidth',
      protocol: 6,
      ipVersion: 4,
      entries: [ENTRY],
    });
  });
});

describe('watchBandwidth', () => {
  it('sends requests until the loop is left', async () => {
    const { device, native } = scriptedDevice();
    const seen: BandwidthEntry[][] = [];
    let answered = 0n;
    const answer = setInterval(() => {
      if (BigInt(native.writes.length) > answered) {
        native.feed(bandwidth(6, [ENTRY]), replyEnd(GET_BANDWIDTH, ++answered));
      }
    }, 1);
    for await (const entries of device.watchBandwidth({ intervalMs: 1 })) {
      seen.push(entries);
      if (seen.length === 3) break;
    }
    clearInterval(answer);
    expect(seen.map((entries) => entries.length)).toEqual([1, 1, 1]);
  });

  it('ends when the device is closed', async () => {
    const { device } = scriptedDevice();
    const next = device.watchBandwidth({ intervalMs: 1_000_000 }).next();
    await device.close();
    expect(await next).toEqual({ value: undefined, done: true });
  });

  it('ends when the driver shuts down', async () => {
    const { device, native } = scriptedDevice();
    const next = device.watchBandwidth({ intervalMs: 1_000_000 }).next();
    native.finish('eof');
    await device.events().next();
    expect(await next).toEqual({ value: undefined, done: true });
  });

  it('rejects with the reason of an aborted signal', async () => {
    const { device } = scriptedDevice();
    const controller = new AbortController();
    const watch = device.watchBandwidth({ intervalMs: 1_000_000, signal: controller.signal });
    const next = watch.next();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
  });

  it.each<[string, (scripted: ReturnType<typeof scriptedDevice>) => unknown]>([
    ['the device is closed', ({ device }) => device.close()],
    [
      'the driver shuts down',
      ({ native }) => {
        native.finish('eof');
      },
    ],
  ])('ends when %s during a request', async (_, end) => {
    const scripted = scriptedDevice();
    const next = scripted.device.watchBandwidth({ intervalMs: 1 }).next();
    await expect.poll(() => scripted.native.commandsWritten).toEqual([GET_BANDWIDTH]);
    await end(scripted);
    expect(await next).toEqual({ value: undefined, done: true });
  });

  it('ends when the driver has shut down but the stream has not ended yet', async () => {
    const { device, native } = scriptedDevice();
    native.writeStatus = Status.InvalidDeviceState;
    const next = device.watchBandwidth({ intervalMs: 1 }).next();
    expect(await next).toEqual({ value: undefined, done: true });
  });

  it('rejects with the reason of a signal that is aborted during a request', async () => {
    const { device, native } = scriptedDevice();
    const controller = new AbortController();
    const watch = device.watchBandwidth({ intervalMs: 1, signal: controller.signal });
    const next = watch.next();
    await expect.poll(() => native.commandsWritten).toEqual([GET_BANDWIDTH]);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
    expect(await watch.next()).toEqual({ value: undefined, done: true });
  });

  it('rejects when the stream fails, during a request or between two', async () => {
    const { device, native } = scriptedDevice();
    const asking = device.watchBandwidth({ intervalMs: 1 }).next();
    const waiting = device.watchBandwidth({ intervalMs: 1_000_000 }).next();
    await expect.poll(() => native.commandsWritten).toEqual([GET_BANDWIDTH]);
    native.finish('error', Status.IoTimeout);
    const failure = { code: 'ERR_NETVERDICT_DEVICE' };
    await expect(asking).rejects.toMatchObject(failure);
    await expect(waiting).rejects.toMatchObject(failure);
  });

  it('refuses an invalid interval', () => {
    const { device } = scriptedDevice();
    expect(() => device.watchBandwidth({ intervalMs: 0 })).toThrow(/intervalMs/);
  });
});
