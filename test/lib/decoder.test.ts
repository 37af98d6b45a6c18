import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, ProtocolError } from '../../lib/base/errors.js';
import { InfoDecoder, parseInfo } from '../../lib/codec/decoder.js';
import type { ConnectionEvent, InfoRecord } from '../../lib/codec/events.js';
import { vectors } from '../protocol/vectors.js';
import {
  bandwidth,
  bytes,
  connection,
  connectionEnd,
  log,
  lost,
  processInfo,
  record,
  replyEnd,
  timeout,
  timeoutOf,
  u32,
  u8,
} from './support/records.js';

const EVERY_KIND = [
  log(4, 'a line'),
  connection({ id: 7n, payload: Uint8Array.of(1, 2, 3) }),
  connection({ id: 8n, localAddress: '2001:db8::1', remoteAddress: '2001:db8::2' }),
  connectionEnd(),
  connectionEnd({ localAddress: '2001:db8::1', remoteAddress: '2001:db8::2' }),
  bandwidth(6, [
    {
      localAddress: '192.0.2.1',
      localPort: 1,
      remoteAddress: '192.0.2.2',
      remotePort: 2,
      transmittedBytes: 3n,
      receivedBytes: 4n,
    },
  ]),
  lost(2n, 1),
  replyEnd(5, 1n),
  processInfo(42n, '\\device\\a.exe'),
  timeout(7n),
  timeoutOf(8n, 5, 0),
  timeoutOf(0n, 2, 3, { localAddress: '2001:db8::1', remoteAddress: '2001:db8::2' }),
  record(68, new Uint8Array(16)),
  record(69, new Uint8Array(36)),
  record(70, new Uint8Array(42)),
  record(200, Uint8Array.of(9, 9)),
  record(1, new Uint8Array(3)),
];

const EVERYTHING = bytes(...EVERY_KIND);

function plain(records: readonly InfoRecord[]): unknown[] {
  return records.map((item) => item.toJSON());
}

/** Pushes `stream` in pieces that end at the given places. */
function decodeInPieces(stream: Uint8Array, cuts: readonly number[]): InfoRecord[] {
  const decoder = new InfoDecoder();
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  const records = [0, ...places].flatMap((start, index) =>
    decoder.push(stream.slice(start, places[index] ?? stream.length)),
  );
  decoder.end();
  return records;
}

const anyRecord = fc.oneof(
  fc.constantFrom(...EVERY_KIND),
  fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 80 })).map(([type, body]) => record(type, body)),
);

describe('InfoDecoder', () => {
  it('decodes every type of record in order', () => {
    expect(parseInfo(EVERYTHING).map((item) => item.type)).toEqual([
      'log',
      'connection',
      'connection',
      'connection-end',
      'connection-end',
      'bandwidth',
      'lost',
      'reply-end',
      'process-info',
      'timeout',
      'timeout',
      'timeout',
      'stalled',
      'connection-info',
      'connection-ended',
      'unknown',
      'protocol-error',
    ]);
  });

  it('gives the same records if the stream is split at any byte', () => {
    const whole = plain(parseInfo(EVERYTHING));
    for (let cut = 0; cut <= EVERYTHING.length; cut++) {
      expect(plain(decodeInPieces(EVERYTHING, [cut]))).toEqual(whole);
    }
  });

  it('adds what the record before a connection or an end says about it', () => {
    const vector = (name: string): Uint8Array => vectors.find((each) => each.name === name)!.bytes;
    const info = vector('connection-info');
    const later = vector('connection-info-multicast');
    const ended = vector('connection-ended');
    const asked = connection({ id: 258n });
    const stream = bytes(info, asked, later, asked, ended, connectionEnd());
    const expected = [
      { type: 'connection-info' },
      {
        type: 'connection',
        id: 258n,
        time: 1_705_526_400_000,
        processStart: undefined,
        loopback: true,
      },
      { type: 'connection-info' },
      { type: 'connection', id: 258n, processStart: 1_695_526_400_000, loopback: false },
      { type: 'connection-ended' },
      { type: 'connection-end', id: 258n, transmitted: 1n, verdict: 3, reason: 'port-released' },
    ];
    expect(parseInfo(stream)).toMatchObject(expected);
    for (let cut = 0; cut <= stream.length; cut++) {
      expect(decodeInPieces(stream, [cut])).toMatchObject(expected);
    }
  });

  it('adds nothing to a record of another connection, or to one that comes later', () => {
    const info = vectors.find(({ name }) => name === 'connection-info')!.bytes;
    const events = parseInfo(
      bytes(
        info,
        connection({ id: 7n }),
        info,
        log(3, ''),
        connection({ id: 258n }),
        connectionEnd(),
      ),
    );
    expect(events.filter(({ type }) => type.startsWith('connection'))).toMatchObject([
      { type: 'connection-info' },
      { id: 7n, time: undefined, loopback: undefined },
      { type: 'connection-info' },
      { id: 258n, time: undefined },
      { type: 'connection-end', id: undefined, startTime: undefined, reason: undefined },
    ]);
  });

  it('shows the id alone of a timeout whose body ends before its connection does', () => {
    const whole = timeoutOf(8n, 5, 0);
    for (let length = 8; length < whole.length - 5; length++) {
      const [event] = parseInfo(record(67, whole.subarray(5, 5 + length)));
      expect(event).toMatchObject({ type: 'timeout', id: 8n, connection: undefined });
    }
    const [event] = parseInfo(record(67, whole.subarray(5), new Uint8Array(3)));
    expect(event).toMatchObject({ verdict: 5, cause: 'time', connection: { protocol: 6 } });
  });

  it.each([
    [68, 16],
    [69, 36],
    [70, 42],
  ])('takes a longer record of type %i, and reports a shorter one', (type, length) => {
    const types = parseInfo(
      bytes(record(type, new Uint8Array(length + 1)), record(type, new Uint8Array(length - 1))),
    ).map((item) => item.type);
    expect(types[0]).not.toBe('protocol-error');
    expect(types[1]).toBe('protocol-error');
  });

  it('gives the same records one byte at a time', () => {
    const cuts = Array.from(EVERYTHING.keys());
    expect(plain(decodeInPieces(EVERYTHING, cuts))).toEqual(plain(parseInfo(EVERYTHING)));
  });

  it('gives the same records for any records and any splits', () => {
    fc.assert(
      fc.property(
        fc.array(anyRecord, { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (records, cuts) => {
          const stream = bytes(...records);
          const decoded = decodeInPieces(stream, cuts);
          expect(decoded).toHaveLength(records.length);
          expect(plain(decoded)).toEqual(plain(parseInfo(stream)));
        },
      ),
    );
  });

  it('survives any bytes, in any pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), (pieces) => {
        const decoder = new InfoDecoder();
        try {
          for (const piece of pieces) plain(decoder.push(piece));
          decoder.end();
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('survives any change of one byte in a valid stream', () => {
    fc.assert(
      fc.property(fc.nat(EVERYTHING.length - 1), fc.nat(255), (place, value) => {
        const changed = Uint8Array.from(EVERYTHING);
        changed[place] = value;
        try {
          plain(parseInfo(changed));
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('reports the number of bytes of an incomplete record', () => {
    const decoder = new InfoDecoder();
    decoder.push(connection().subarray(0, 3));
    expect(decoder.pendingBytes).toBe(3);
    decoder.push(connection().subarray(3, 10));
    expect(decoder.pendingBytes).toBe(10);
    expect(decoder.push(connection().subarray(10))).toHaveLength(1);
    expect(decoder.pendingBytes).toBe(0);
  });

  it('decodes a 16 MiB record from small pieces', () => {
    const payload = new Uint8Array(16 * 1024 * 1024 - 35).fill(7);
    const stream = connection({ payload });
    const decoder = new InfoDecoder();
    const records: InfoRecord[] = [];
    for (let start = 0; start < stream.length; start += 65_536) {
      records.push(...decoder.push(stream.subarray(start, start + 65_536)));
    }
    const [event] = records as ConnectionEvent[];
    expect(event!.payloadLength).toBe(payload.length);
    expect(event!.payload.at(-1)).toBe(7);
  });

  it('decodes bytes in the middle of a larger buffer', () => {
    const larger = bytes(new Uint8Array(7), connection({ id: 99n }), new Uint8Array(9));
    const [event] = parseInfo(larger.subarray(7, larger.length - 9)) as ConnectionEvent[];
    expect(event!.id).toBe(99n);
    expect(event!.remoteAddress).toBe('198.51.100.1');
  });

  it('refuses a value that is not a Uint8Array', () => {
    expect(() => new InfoDecoder().push('abc' as unknown as Uint8Array)).toThrow(
      InvalidArgumentError,
    );
  });
});

describe('a record whose length contradicts its type', () => {
  it.each([
    ['LogLine without severity', record(0)],
    ['ConnectionV4 one byte short', record(1, new Uint8Array(34))],
    ['ConnectionV6 one byte short', record(2, new Uint8Array(58))],
    ['ConnectionV4 with a payload that overruns it', record(1, new Uint8Array(31), u32(1))],
    ['ConnectionV4 with a payload of 4 GiB', record(1, new Uint8Array(31), u32(0xffffffff))],
    ['ConnectionEndV4 one byte short', record(3, new Uint8Array(21))],
    ['ConnectionEndV6 one byte short', record(4, new Uint8Array(45))],
    ['BandwidthStatsV4 without count', record(5, new Uint8Array(4))],
    [
      'BandwidthStatsV4 with a count that overruns it',
      record(5, u8(6), u32(1), new Uint8Array(27)),
    ],
    ['BandwidthStatsV6 with a count of 4 G', record(6, u8(6), u32(0xffffffff))],
    ['EventsLost one byte short', record(64, new Uint8Array(8))],
    ['ReplyEnd one byte short', record(65, new Uint8Array(8))],
    ['ProcessInfo one byte short', record(66, new Uint8Array(7))],
    ['ProcessInfo with half a character', record(66, new Uint8Array(9))],
    ['ConnectionTimeout one byte short', record(67, new Uint8Array(7))],
  ])('%s is reported and skipped', (name, malformed) => {
    const [error, next] = parseInfo(bytes(malformed, connection({ id: 5n })));
    expect(error).toMatchObject({ type: 'protocol-error', recordType: malformed[0] });
    const { message } = (error as { error: ProtocolError }).error;
    expect(message).toContain(name.split(' ')[0]);
    expect((next as ConnectionEvent).id).toBe(5n);
  });
});

describe('what a flood of records costs', () => {
  const SIZE = 16 * 1024 * 1024;

  /** The memory that is in use after the garbage is gone. */
  function bytesInUse(): number {
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  }

  /** A stream of `SIZE` bytes that repeats a record. */
  function flood(part: Uint8Array): Uint8Array {
    return new Uint8Array(SIZE - (SIZE % part.length)).map(
      (_, place) => part[place % part.length]!,
    );
  }

  it.each([
    ['unknown records without a body', record(200)],
    ['malformed records without a body', record(1)],
    ['empty log lines', log(3, '')],
  ])('16 MiB of %s keep at most 14 times their size', (_, part) => {
    const stream = flood(part);
    const before = bytesInUse();
    const records = parseInfo(stream);
    const taken = bytesInUse() - before;
    expect(records).toHaveLength(stream.length / part.length);
    expect(taken).toBeLessThan(14 * SIZE);
  });

  it('paths of processes take at most 16 MiB', () => {
    const decoder = new InfoDecoder();
    const path = 'x'.repeat(32_767);
    const [first] = decoder.push(
      bytes(processInfo(1n, path), connection({ processId: 1n })).slice(),
    );
    expect(first).toMatchObject({ type: 'process-info' });
    for (let id = 2n; id < 300n; id++) decoder.push(processInfo(id, path));
    const paths = [1n, 299n].map(
      (processId) => (decoder.push(connection({ processId }))[0] as ConnectionEvent).processPath,
    );
    expect(paths).toEqual([undefined, path]);
  });

  it('a path longer than any of Windows is malformed', () => {
    const [longest, longer] = parseInfo(
      bytes(processInfo(1n, 'x'.repeat(32_767)), processInfo(1n, 'x'.repeat(32_768))),
    );
    expect(longest).toMatchObject({ type: 'process-info' });
    expect(longer).toMatchObject({ type: 'protocol-error', recordType: 66 });
  });
});

describe('a record longer than the maximum', () => {
  const corrupt = bytes(u8(1), u32(16 * 1024 * 1024 + 1));

  it('returns the records before it, and nothing after it', () => {
    const decoder = new InfoDecoder();
    expect(decoder.push(bytes(connection(), corrupt))).toHaveLength(1);
    expect(decoder.failure).toBeInstanceOf(ProtocolError);
    expect(() => decoder.push(connection())).toThrow(/The stream is corrupt/);
    expect(() => {
      decoder.end();
    }).toThrow(/The stream is corrupt/);
  });

  it('throws at once if no record comes before it', () => {
    expect(() => new InfoDecoder().push(corrupt)).toThrow(ProtocolError);
  });

  it('is detected if its header comes in two pieces', () => {
    const decoder = new InfoDecoder();
    decoder.push(corrupt.subarray(0, 2));
    expect(() => decoder.push(corrupt.subarray(2))).toThrow(ProtocolError);
  });
});

describe('parseInfo', () => {
  it('refuses a buffer that ends within a record', () => {
    expect(() => parseInfo(connection().subarray(0, 39))).toThrow(/ends within a record, 39 bytes/);
  });
});
