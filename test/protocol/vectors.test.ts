import { describe, expect, it } from 'vitest';
import { formatAddress } from '../../lib/codec/addresses.js';
import { encodeCommand } from '../../lib/codec/commands.js';
import { parseInfo } from '../../lib/codec/decoder.js';
import {
  decodeCapabilities,
  decodeStatistics,
  decodeVersion,
} from '../../lib/codec/driver_info.js';
import { encodeDriverOptions, type OptionsRequest } from '../../lib/codec/driver_options.js';
import { severityNumber, type InfoRecord } from '../../lib/codec/events.js';
import { RecordDecoder } from '../../lib/codec/record_decoder.js';
import { decodeConnections, encodeGetConnections } from '../../lib/codec/snapshot.js';
import type { Verdict } from '../../lib/codec/verdicts.js';
import { OptionFlag } from '../../lib/codec/wire.js';
import { bytesOf, vectors, type Vector } from './vectors.js';

type Fields = Readonly<Record<string, string>>;

const PLAIN_COMMANDS = {
  Shutdown: 'shutdown',
  ClearCache: 'clear-cache',
  GetLogs: 'get-logs',
  GetBandwidthStats: 'get-bandwidth',
  PrintMemoryStats: 'print-memory-stats',
  CleanEndedConnections: 'clean-ended-connections',
} as const;

const LOSS_REASONS = [
  'unknown',
  'event-queue-full',
  'held-packet-limit',
  'out-of-memory',
  'connection-limit',
  'owner-share',
  'fragment-limit',
];
const TIMEOUT_CAUSES = ['time', 'stall', 'share', 'limit'];
const END_REASONS = ['closed', 'port-released', 'idle', 'evicted', 'cleared'];
const SEVERITIES = ['trace', 'debug', 'info', 'warning', 'error', 'critical'] as const;

function number(fields: Fields, name: string): number {
  return Number(fields[name]);
}

function bigint(fields: Fields, name: string): bigint {
  return BigInt(fields[name]!);
}

/** A time of the wire as milliseconds since the epoch; 0 is an unknown time. */
function time(fields: Fields, name: string): number | undefined {
  const ticks = bigint(fields, name);
  return ticks === 0n ? undefined : Number(ticks - 116_444_736_000_000_000n) / 10_000;
}

function numbers(fields: Fields): Record<string, number> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, Number(value)]));
}

function identity(fields: Fields): Record<string, unknown> {
  return {
    processId: number(fields, 'processId'),
    direction: fields['direction'] === '0' ? 'outbound' : 'inbound',
    protocol: number(fields, 'protocol'),
    ipVersion: fields['localAddress']!.length === 8 ? 4 : 6,
    localAddress: formatAddress(bytesOf(fields['localAddress']!)),
    localAddressBytes: bytesOf(fields['localAddress']!),
    localPort: number(fields, 'localPort'),
    remoteAddress: formatAddress(bytesOf(fields['remoteAddress']!)),
    remoteAddressBytes: bytesOf(fields['remoteAddress']!),
    remotePort: number(fields, 'remotePort'),
  };
}

function connection(fields: Fields): Record<string, unknown> {
  const payload = bytesOf(fields['payload']!);
  return {
    type: 'connection',
    id: bigint(fields, 'id'),
    ...identity(fields),
    payloadLayer: number(fields, 'payloadLayer'),
    payloadLength: payload.length,
    payload,
  };
}

function connectionEnd(fields: Fields): Record<string, unknown> {
  return { type: 'connection-end', ...identity(fields) };
}

function bandwidth(fields: Fields): Record<string, unknown> {
  const entries = fields['entries'] === '-' ? [] : fields['entries']!.split(',');
  return {
    type: 'bandwidth',
    protocol: number(fields, 'protocol'),
    entries: entries.map((entry) => {
      const [local, localPort, remote, remotePort, transmitted, received] = entry.split('/');
      return {
        protocol: number(fields, 'protocol'),
        localAddress: formatAddress(bytesOf(local!)),
        localPort: Number(localPort),
        remoteAddress: formatAddress(bytesOf(remote!)),
        remotePort: Number(remotePort),
        transmittedBytes: BigInt(transmitted!),
        receivedBytes: BigInt(received!),
      };
    }),
  };
}

const EXPECTED_RECORDS: Readonly<Record<string, (fields: Fields) => Record<string, unknown>>> = {
  LogLine: (fields) => ({
    type: 'log',
    severity: SEVERITIES[number(fields, 'severity') - 1],
    message: Buffer.from(bytesOf(fields['text']!)).toString('utf8'),
  }),
  ConnectionV4: connection,
  ConnectionV6: connection,
  ConnectionEndV4: connectionEnd,
  ConnectionEndV6: connectionEnd,
  BandwidthStatsV4: bandwidth,
  BandwidthStatsV6: bandwidth,
  EventsLost: (fields) => ({
    type: 'lost',
    count: bigint(fields, 'count'),
    reason: LOSS_REASONS[number(fields, 'reason')],
    processId: 'processId' in fields ? number(fields, 'processId') : undefined,
  }),
  ReplyEnd: (fields) => ({
    type: 'reply-end',
    command: number(fields, 'command'),
    sequence: bigint(fields, 'sequence'),
  }),
  ProcessInfo: (fields) => ({
    type: 'process-info',
    processId: number(fields, 'processId'),
    path: Buffer.from(bytesOf(fields['path']!)).toString('utf16le'),
  }),
  ConnectionTimeout: (fields) => ({
    type: 'timeout',
    id: bigint(fields, 'id'),
    ...('cause' in fields
      ? {
          verdict: number(fields, 'verdict'),
          cause: TIMEOUT_CAUSES[number(fields, 'cause')],
          connection: identity(fields),
        }
      : { verdict: undefined, cause: undefined, connection: undefined }),
  }),
  ClientStalled: (fields) => ({
    type: 'stalled',
    count: bigint(fields, 'count'),
    durationMs: number(fields, 'durationMs'),
  }),
  ConnectionInfo: (fields) => ({
    type: 'connection-info',
    id: bigint(fields, 'id'),
    time: time(fields, 'time'),
    processStart: time(fields, 'processStart'),
    loopback: (number(fields, 'flags') & 1) !== 0,
    multicast: (number(fields, 'flags') & 2) !== 0,
    broadcast: (number(fields, 'flags') & 4) !== 0,
    askedAgain: (number(fields, 'flags') & 8) !== 0,
    interfaceIndex: number(fields, 'interfaceIndex'),
    compartment: number(fields, 'compartment'),
  }),
  ConnectionEnded: (fields) => ({
    type: 'connection-ended',
    id: bigint(fields, 'id'),
    startTime: time(fields, 'startTime'),
    endTime: time(fields, 'endTime'),
    transmitted: bigint(fields, 'transmitted'),
    received: bigint(fields, 'received'),
    verdict: number(fields, 'verdict'),
    reason: END_REASONS[number(fields, 'reason')],
  }),
};

function encode({ kind, fields }: Vector): Uint8Array | undefined {
  if (kind in PLAIN_COMMANDS) {
    return encodeCommand({ command: PLAIN_COMMANDS[kind as keyof typeof PLAIN_COMMANDS] });
  }
  const verdict = number(fields, 'verdict') as Verdict;
  switch (kind) {
    case 'Verdict':
      return encodeCommand({ command: 'verdict', id: bigint(fields, 'id'), verdict });
    case 'UpdateV4':
    case 'UpdateV6':
      return encodeCommand({
        command: 'update',
        connection: {
          protocol: number(fields, 'protocol'),
          localAddress: formatAddress(bytesOf(fields['localAddress']!)),
          localPort: number(fields, 'localPort'),
          remoteAddress: formatAddress(bytesOf(fields['remoteAddress']!)),
          remotePort: number(fields, 'remotePort'),
        },
        verdict,
      });
    case 'GetConnections':
      return encodeGetConnections(bigint(fields, 'cursor'));
    case 'Options':
      return encodeDriverOptions(optionsRequest(fields), 'stallTimeoutMs' in fields ? 2 : 1);
    default:
      return undefined;
  }
}

function optionsRequest(fields: Fields): OptionsRequest {
  const { flags, timeoutVerdict, logLevel, ...others } = numbers(fields);
  const has = (flag: number): boolean => (flags! & flag) !== 0;
  return {
    ...(others as unknown as OptionsRequest),
    failPolicy: has(OptionFlag.FailClosed) ? 'closed' : 'open',
    dropStrayResets: has(OptionFlag.DropStrayResets),
    askControlTraffic: has(OptionFlag.AskControlTraffic),
    loopback: has(OptionFlag.PermitLoopback) ? 'permit' : 'ask',
    connectionInfo: has(OptionFlag.ConnectionInfo),
    timeoutVerdict: timeoutVerdict as Verdict,
    logLevel: SEVERITIES.find((severity) => severityNumber(severity) === logLevel)!,
  };
}

function decodeReply({ kind, bytes }: Vector): unknown {
  switch (kind) {
    case 'Version':
      return decodeVersion(bytes);
    case 'Capabilities':
      return decodeCapabilities(bytes);
    case 'Statistics':
      return decodeStatistics(bytes);
    case 'Connections': {
      const { nextCursor, connections } = decodeConnections(new RecordDecoder().source(bytes));
      return { nextCursor, connections: connections.map((connection) => connection.fields()) };
    }
    default:
      return undefined;
  }
}

function expectedConnections(fields: Fields): unknown {
  const entries = fields['entries'] === '-' ? [] : fields['entries']!.split(',');
  const names =
    'type processId direction protocol localAddress remoteAddress localPort remotePort id processStart startTime ' +
    'idleMs transmitted received verdict flags';
  const connections = entries.map((entry) => {
    const values = entry.split('/');
    const each = Object.fromEntries(
      names.split(' ').map((name, index) => [name, values[index]!]),
    ) as Fields;
    const view = Object.fromEntries(
      Object.entries(identity(each)).filter(([name]) => !name.endsWith('Bytes')),
    );
    return {
      ...view,
      protocolName: each['protocol'] === '6' ? 'tcp' : 'udp',
      id: each['id'] === '0' ? undefined : bigint(each, 'id'),
      processStart: time(each, 'processStart'),
      startTime: time(each, 'startTime'),
      idleMs: number(each, 'idleMs'),
      transmitted: bigint(each, 'transmitted'),
      received: bigint(each, 'received'),
      verdict: number(each, 'verdict'),
      reported: (number(each, 'flags') & 1) !== 0,
      ended: (number(each, 'flags') & 2) !== 0,
      waiting: (number(each, 'flags') & 4) !== 0,
    };
  });
  return { nextCursor: bigint(fields, 'nextCursor'), connections };
}

function expectedReply({ kind, fields }: Vector): unknown {
  if (kind === 'Connections') {
    return expectedConnections(fields);
  }
  if (kind === 'Statistics') {
    const counters = Object.entries(fields).map(([name, value]) => [name, BigInt(value)]);
    return { ...Object.fromEntries(counters), engineState: 'filtering' };
  }
  return kind === 'Capabilities'
    ? { ...numbers(fields), featureBits: bigint(fields, 'featureBits') }
    : numbers(fields);
}

const records = vectors.filter(({ kind }) => kind in EXPECTED_RECORDS);
const replies = vectors.filter((vector) =>
  ['Version', 'Capabilities', 'Statistics', 'Connections'].includes(vector.kind),
);
const encodable = vectors.filter(
  (vector) => !records.includes(vector) && !replies.includes(vector),
);

describe('golden vectors', () => {
  it.each(records)('$name decodes to its fields', ({ kind, fields, bytes }) => {
    const decoded: InfoRecord[] = parseInfo(bytes);
    expect(decoded).toHaveLength(1);
    expect(decoded[0]).toMatchObject(EXPECTED_RECORDS[kind]!(fields));
  });

  it('the records decode in sequence from one buffer', () => {
    const decoded = parseInfo(Buffer.concat(records.map(({ bytes }) => bytes)));
    expect(decoded.map((record) => record.type)).toEqual(
      records.map(({ kind, fields }) => EXPECTED_RECORDS[kind]!(fields)['type']),
    );
  });

  it.each(encodable)('$name encodes to its bytes', (vector) => {
    expect(encode(vector)).toEqual(vector.bytes);
  });

  it.each(replies)('$name decodes to its fields', (vector) => {
    expect(decodeReply(vector)).toEqual(expectedReply(vector));
  });
});
