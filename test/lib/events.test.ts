import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, UnsupportedError } from '../../lib/base/errors.js';
import { formatAddress } from '../../lib/codec/addresses.js';
import { parseInfo } from '../../lib/codec/decoder.js';
import type {
  BandwidthEvent,
  ConnectionEvent,
  InfoRecord,
  LogEvent,
  LostEvent,
  UnknownEvent,
} from '../../lib/codec/events.js';
import { Verdict, type RedirectTarget } from '../../lib/codec/verdicts.js';
import {
  bandwidth,
  bytes,
  connection,
  connectionEnd,
  log,
  lost,
  processInfo,
  record,
} from './support/records.js';
import { nextTurn, scriptedDevice } from './support/scripted_device.js';

const ENTRY = {
  localAddress: '192.0.2.10',
  localPort: 1,
  remoteAddress: '198.51.100.1',
  remotePort: 2,
  transmittedBytes: 10n,
  receivedBytes: 20n,
};

function one(record: Uint8Array): ConnectionEvent {
  return parseInfo(record)[0] as ConnectionEvent;
}

/** A connection event of a device, and a function that reads its last written verdict. */
async function eventOfDevice(): Promise<{ event: ConnectionEvent; verdict: () => number }> {
  const { device, native } = scriptedDevice();
  native.feed(connection({ id: 0x0102_0304_0506_0708n }));
  const { value } = await device.events({ types: ['connection'] }).next();
  return { event: value!, verdict: () => native.writes.at(-1)!.at(-1)! };
}

/** Checks that the bytes are a copy, which the application may change. */
function expectOwnBytes(read: () => Uint8Array): void {
  const before = read().slice();
  const own = read();
  expect(own.constructor).toBe(Uint8Array);
  own.fill(0xee);
  expect(read()).toEqual(before);
}

describe('bytes that were decoded from a Buffer', () => {
  const decode = (record: Uint8Array): InfoRecord => parseInfo(Buffer.from(record))[0]!;

  it.each<[string, () => Uint8Array]>([
    ['payload', () => event.payload],
    ['local address', () => event.localAddressBytes],
    ['remote address', () => event.remoteAddressBytes],
    ['local address of a bandwidth entry', () => entry.localAddressBytes],
    ['remote address of a bandwidth entry', () => entry.remoteAddressBytes],
  ])('are a new copy on each access: the %s', (_, read) => {
    expectOwnBytes(read);
  });
  const event = decode(connection({ payload: Uint8Array.of(1, 2) })) as ConnectionEvent;
  const entry = (decode(bandwidth(6, [ENTRY])) as BandwidthEvent).entries[0]!;

  it.each<[string, Uint8Array]>([
    ['unknown record', record(200, Uint8Array.of(7, 8))],
    ['malformed record', record(3, Uint8Array.of(7, 8))],
  ])('are copied into the body of an %s', (_, bytesOfRecord) => {
    const input = Buffer.from(bytesOfRecord);
    const [{ body }] = parseInfo(input) as [UnknownEvent];
    input.fill(0);
    expect(body).toEqual(Uint8Array.of(7, 8));
  });
});

describe('a bandwidth entry', () => {
  it.each([
    ['192.0.2.1', '198.51.100.7'],
    ['2001:db8::1', '2001:db8::2'],
  ])('has its addresses as text and as bytes: %s', (localAddress, remoteAddress) => {
    const [event] = parseInfo(bandwidth(6, [{ ...ENTRY, localAddress, remoteAddress }]));
    const entry = (event as BandwidthEvent).entries[0]!;
    expect(entry).toMatchObject({ localAddress, remoteAddress });
    expect(formatAddress(entry.localAddressBytes)).toBe(localAddress);
    expect(formatAddress(entry.remoteAddressBytes)).toBe(remoteAddress);
  });
});

describe('a connection event', () => {
  it('shows the name of a known protocol, and the number of any other', () => {
    const names = [1, 6, 17, 58, 250].map((protocol) => one(connection({ protocol })).protocolName);
    expect(names).toEqual(['icmp', 'tcp', 'udp', 'icmpv6', '250']);
  });

  it('has process ids beyond 32 bits', () => {
    expect(one(connection({ processId: 0x12_3456_789an })).processId).toBe(0x12_3456_789a);
  });

  it('gives a payload that the application may change', () => {
    const event = one(connection({ payload: Uint8Array.of(1, 2) }));
    event.payload.fill(9);
    expect(event.payload).toEqual(Uint8Array.of(1, 2));
    expect(event.payload.buffer.byteLength).toBe(2);
  });

  it('gives address bytes that the application may change', () => {
    const event = one(connection({ localAddress: '192.0.2.10', remoteAddress: '192.0.2.11' }));
    event.localAddressBytes.fill(0);
    event.remoteAddressBytes.fill(0);
    expect([event.localAddress, event.remoteAddress]).toEqual(['192.0.2.10', '192.0.2.11']);
  });

  it.each([0, 3, 4, 255])('gives payload layer %d as the driver sent it', (payloadLayer) => {
    expect(one(connection({ payloadLayer })).payloadLayer).toBe(payloadLayer);
  });

  it('shows all of its fields as JSON', () => {
    const event = one(connection({ id: 1n << 63n, payload: Uint8Array.of(255) }));
    expect(JSON.parse(JSON.stringify(event))).toEqual({
      type: 'connection',
      id: '9223372036854775808',
      processId: 42,
      direction: 'outbound',
      protocol: 6,
      protocolName: 'tcp',
      ipVersion: 4,
      localAddress: '192.0.2.10',
      localPort: 49_152,
      remoteAddress: '198.51.100.1',
      remotePort: 443,
      payloadLayer: 4,
      payload: '/w==',
    });
  });

  it('shows all of its fields to console.log', () => {
    const text = inspect(one(connection({ id: 5n })));
    expect(text).toContain('id: 5n');
    expect(text).toContain("remoteAddress: '198.51.100.1'");
  });
});

describe('the process path', () => {
  it('is the path that the driver reported for the process', () => {
    const [, event, end] = parseInfo(
      bytes(processInfo(42n, '\\device\\ä.exe'), connection(), connectionEnd()),
    );
    expect(event).toMatchObject({ processPath: '\\device\\ä.exe' });
    expect(end).toMatchObject({ processPath: '\\device\\ä.exe' });
  });

  it('is undefined for a process that the driver has not reported', () => {
    const [event] = parseInfo(bytes(connection(), processInfo(42n, 'later')));
    expect((event as ConnectionEvent).processPath).toBeUndefined();
    expect((event as ConnectionEvent).toJSON()).not.toHaveProperty('processPath');
  });

  it('stays the path of the process that had the id when the event came', () => {
    const [, before, , after] = parseInfo(
      bytes(processInfo(42n, 'old'), connection(), processInfo(42n, 'new'), connection()),
    );
    expect((before as ConnectionEvent).processPath).toBe('old');
    expect((after as ConnectionEvent).processPath).toBe('new');
  });

  it('is undefined once the id was reused twice', () => {
    const [, first, , second] = parseInfo(
      bytes(
        ...[processInfo(42n, 'a'), connection(), processInfo(42n, 'b'), connection()],
        processInfo(42n, 'c'),
      ),
    );
    expect((first as ConnectionEvent).processPath).toBeUndefined();
    expect((second as ConnectionEvent).processPath).toBe('b');
  });
});

describe('a verdict by an event', () => {
  it.each([
    [
      'accept',
      (event: ConnectionEvent) => {
        event.accept();
      },
      Verdict.Accept,
    ],
    [
      'accept for good',
      (event: ConnectionEvent) => {
        event.accept({ permanent: true });
      },
      Verdict.PermanentAccept,
    ],
    [
      'block',
      (event: ConnectionEvent) => {
        event.block({ permanent: false });
      },
      Verdict.Block,
    ],
    [
      'block for good',
      (event: ConnectionEvent) => {
        event.block({ permanent: true });
      },
      Verdict.PermanentBlock,
    ],
    [
      'drop',
      (event: ConnectionEvent) => {
        event.drop();
      },
      Verdict.Drop,
    ],
    [
      'drop for good',
      (event: ConnectionEvent) => {
        event.drop({ permanent: true });
      },
      Verdict.PermanentDrop,
    ],
    [
      'redirect to the resolver',
      (event: ConnectionEvent) => {
        event.redirect('nameserver');
      },
      Verdict.RedirectNameServer,
    ],
    [
      'redirect to the tunnel',
      (event: ConnectionEvent) => {
        event.redirect('tunnel', { permanent: true });
      },
      Verdict.RedirectTunnel,
    ],
    [
      'redirect to the split tunnel',
      (event: ConnectionEvent) => {
        event.redirect('split-tunnel');
      },
      Verdict.RedirectSplitTunnel,
    ],
  ])('%s', async (_, decide, expected) => {
    const { event, verdict } = await eventOfDevice();
    decide(event);
    await nextTurn();
    expect(verdict()).toBe(expected);
  });

  it('refuses a redirection to another target, or one that is not permanent', async () => {
    const { event } = await eventOfDevice();
    const somewhere = 'toString' as RedirectTarget;
    const briefly = { permanent: false } as unknown as { permanent: true };
    expect(() => {
      event.redirect(somewhere);
    }).toThrow(InvalidArgumentError);
    expect(() => {
      event.redirect('tunnel', briefly);
    }).toThrow(/permanent: false/);
  });

  it('is refused without a device, and the error says what to do instead', () => {
    expect(() => {
      one(connection()).accept();
    }).toThrow(UnsupportedError);
    expect(() => {
      one(connection()).accept();
    }).toThrow(/encodeCommand/);
  });
});

describe('other events', () => {
  it('show an unknown severity or reason as the nearest known one', () => {
    const severities = [0, 1, 6, 7, 255].map(
      (n) => (parseInfo(log(n, ''))[0] as LogEvent).severity,
    );
    expect(severities).toEqual(['trace', 'trace', 'critical', 'critical', 'critical']);
    const reasons = [0, 1, 2, 3, 4, 5, 6, 7].map(
      (n) => (parseInfo(lost(1n, n))[0] as LostEvent).reason,
    );
    expect(reasons).toEqual([
      'unknown',
      'event-queue-full',
      'held-packet-limit',
      'out-of-memory',
      'connection-limit',
      'owner-share',
      'fragment-limit',
      'unknown',
    ]);
  });

  it('have a cure of their own for each reason of a loss', () => {
    const cures = [0, 1, 2, 3, 4, 5, 6].map((n) => (parseInfo(lost(1n, n))[0] as LostEvent).cure);
    expect(new Set(cures).size).toBe(7);
    expect(cures[1]).toContain('maxQueuedBytes');
    expect(cures[2]).toContain('maxHeldPackets');
    expect(cures[4]).toContain('maxConnections');
  });

  it('replace bytes that are not UTF-8 in a log line', () => {
    const [event] = parseInfo(log(3, 'x'));
    expect((event as LogEvent).message).toBe('x');
    const broken = log(3, 'x');
    broken[6] = 0xff;
    expect((parseInfo(broken)[0] as LogEvent).message).toBe('\ufffd');
  });
});
