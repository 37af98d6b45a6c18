import { spawnSync } from 'node:child_process';
import { conversationKey, conversationOf, type Conversations } from './conversations.js';

const FIELDS = [
  'frame.protocols',
  'ip.src',
  'ipv6.src',
  'ip.dst',
  'ipv6.dst',
  'tcp.stream',
  'tcp.srcport',
  'tcp.dstport',
  'tcp.seq_raw',
  'tcp.len',
  'udp.stream',
  'udp.srcport',
  'udp.dstport',
  'udp.length',
] as const;

type Field = (typeof FIELDS)[number];
type Packet<F extends string> = Readonly<Record<F, string>>;

/** Turns on the verification of checksums, which tshark omits by default. */
const CHECKED = [
  'ip.check_checksum:TRUE',
  'tcp.check_checksum:TRUE',
  'udp.check_checksum:TRUE',
].flatMap((preference) => ['-o', preference]);

/** What a machine needs to have a network: neighbour and listener discovery, and group membership. */
export const CONTROL_TRAFFIC =
  '(icmpv6.type in {133 .. 137} && ipv6.hlim == 255) || (icmpv6.type == 143 && ipv6.hlim == 1) || igmp';

/** Packets whose checksum is wrong. */
export const WRONG_CHECKSUM =
  'ip.checksum.status == "Bad" || tcp.checksum.status == "Bad" || udp.checksum.status == "Bad"';

/** The fields of the packets that a display filter selects. Throws an error if tshark could not read all of them. */
export function dissect<F extends string>(
  capture: string,
  filter: string,
  fields: readonly F[],
): Packet<F>[] {
  const result = spawnSync(
    'tshark',
    [
      ...['-n', '-r', capture, '-Y', filter, ...CHECKED],
      ...['-T', 'fields', '-E', 'occurrence=f', '-E', 'separator=,'],
      ...fields.flatMap((field) => ['-e', field]),
    ],
    { encoding: 'utf8', maxBuffer: 1 << 28 },
  );
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`tshark of ${capture}: ${result.stderr}`);
  return result.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const values = line.split(',');
      return Object.fromEntries(fields.map((field, index) => [field, values[index]])) as Packet<F>;
    });
}

const UDP_HEADER_SIZE = 8;
const SEQUENCE_SPACE = 2 ** 32;

/** The bytes of one direction of one TCP stream: each sequence number counts once. */
class StreamBytes {
  private readonly ranges: [number, number][] = [];
  private last: number | undefined;

  add(sequence: number, length: number): void {
    if (length === 0) return;
    const start = this.unwrap(sequence);
    this.ranges.push([start, start + length]);
  }

  /** Follows the 32-bit sequence number over its wrap. */
  private unwrap(sequence: number): number {
    const last = this.last ?? sequence;
    const rounds = Math.round((last - sequence) / SEQUENCE_SPACE);
    this.last = sequence + rounds * SEQUENCE_SPACE;
    return this.last;
  }

  get size(): number {
    let size = 0;
    let end = Number.NEGATIVE_INFINITY;
    for (const [from, to] of this.ranges.sort(([a], [b]) => a - b)) {
      size += Math.max(0, to - Math.max(from, end));
      end = Math.max(end, to);
    }
    return size;
  }
}

/** The TCP and UDP conversations of the host with the given addresses, as tshark dissects them. */
export function conversationsByTshark(
  capture: string,
  localAddresses: readonly string[],
): Conversations {
  const conversations: Conversations = new Map();
  const streams = new Set<string>();
  const tcpBytes = new Map<string, { key: string; outbound: boolean; bytes: StreamBytes }>();
  for (const packet of dissect<Field>(capture, '(tcp || udp) && !icmp && !icmpv6', FIELDS)) {
    const protocol = packet['tcp.stream'] === '' ? 'udp' : 'tcp';
    const stream = `${protocol} ${packet[`${protocol}.stream`]}`;
    const source = {
      address: packet['ip.src'] || packet['ipv6.src'],
      port: Number(packet[`${protocol}.srcport`]),
    };
    const destination = {
      address: packet['ip.dst'] || packet['ipv6.dst'],
      port: Number(packet[`${protocol}.dstport`]),
    };
    const outbound = localAddresses.includes(source.address);
    if (!outbound && !localAddresses.includes(destination.address)) continue;
    const key = outbound
      ? conversationKey(protocol, source, destination)
      : conversationKey(protocol, destination, source);
    const conversation = conversationOf(conversations, key);
    if (!streams.has(stream)) {
      streams.add(stream);
      conversation.connections += 1;
    }
    if (protocol === 'udp') {
      const length = Number(packet['udp.length']) - UDP_HEADER_SIZE;
      if (outbound) conversation.transmitted += length;
      else conversation.received += length;
      continue;
    }
    const direction = `${stream} ${outbound ? 'out' : 'in'}`;
    const flow = tcpBytes.get(direction) ?? { key, outbound, bytes: new StreamBytes() };
    tcpBytes.set(direction, flow);
    flow.bytes.add(Number(packet['tcp.seq_raw']), Number(packet['tcp.len']));
  }
  for (const { key, outbound, bytes } of tcpBytes.values()) {
    const conversation = conversationOf(conversations, key);
    if (outbound) conversation.transmitted += bytes.size;
    else conversation.received += bytes.size;
  }
  return conversations;
}
