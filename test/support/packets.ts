/** Builds raw IP packets with right lengths and checksums (RFC 791, 8200, 9293, 768, 792, 4443). */

import { isIPv6 } from 'node:net';
import { formatAddress, parseAddress } from '../../lib/codec/addresses.js';

export interface PacketSpec {
  readonly source: string;
  readonly destination: string;
  readonly protocol?: 'tcp' | 'udp' | 'icmp' | number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly payload?: Uint8Array;
  /** Fields of the TCP header. By default a packet without payload is a SYN. */
  readonly tcp?: {
    readonly flags: number;
    readonly sequence: number;
    readonly acknowledgment: number;
  };
  /** IPv4 options, a multiple of four bytes. */
  readonly options?: Uint8Array;
  /** IPv6 extension headers as [next-header value, bytes], each a multiple of eight bytes long, first byte overwritten. */
  readonly extensions?: readonly (readonly [type: number, bytes: Uint8Array])[];
}

const NUMBERS = { tcp: 6, udp: 17 } as const;

export function ipPacket(spec: PacketSpec): Uint8Array {
  const version6 = isIPv6(spec.source);
  const protocol = protocolNumber(spec.protocol ?? 'tcp', version6);
  const source = parseAddress(spec.source);
  const destination = parseAddress(spec.destination);
  const transport = transportSegment(spec, protocol);
  setTransportChecksum(transport, protocol, source, destination, version6);
  return version6
    ? ipv6Packet(spec, protocol, source, destination, transport)
    : ipv4Packet(spec, protocol, source, destination, transport);
}

function protocolNumber(protocol: NonNullable<PacketSpec['protocol']>, version6: boolean): number {
  if (typeof protocol === 'number') return protocol;
  if (protocol === 'icmp') return version6 ? 58 : 1;
  return NUMBERS[protocol];
}

function transportSegment(spec: PacketSpec, protocol: number): Uint8Array {
  const payload = spec.payload ?? new Uint8Array(0);
  const headerLength =
    protocol === 6 ? 20 : protocol === 17 || protocol === 1 || protocol === 58 ? 8 : 0;
  const segment = new Uint8Array(headerLength + payload.length);
  const view = new DataView(segment.buffer);
  segment.set(payload, headerLength);
  if (protocol === 6) {
    view.setUint16(0, spec.sourcePort ?? 0);
    view.setUint16(2, spec.destinationPort ?? 0);
    view.setUint32(4, spec.tcp?.sequence ?? 1000);
    view.setUint32(8, spec.tcp?.acknowledgment ?? 0);
    view.setUint8(12, 5 << 4);
    view.setUint8(13, spec.tcp?.flags ?? (payload.length === 0 ? 0x02 : 0x18));
    view.setUint16(14, 65535);
  } else if (protocol === 17) {
    view.setUint16(0, spec.sourcePort ?? 0);
    view.setUint16(2, spec.destinationPort ?? 0);
    view.setUint16(4, segment.length);
  } else if (protocol === 1) {
    view.setUint8(0, 8);
  } else if (protocol === 58) {
    view.setUint8(0, 128);
  }
  return segment;
}

const CHECKSUM_OFFSETS: Readonly<Record<number, number>> = { 6: 16, 17: 6, 1: 2, 58: 2 };

function setTransportChecksum(
  segment: Uint8Array,
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  version6: boolean,
): void {
  const offset = CHECKSUM_OFFSETS[protocol];
  if (offset === undefined) return;
  const pseudo = new Uint8Array(source.length * 2 + 8);
  pseudo.set(source, 0);
  pseudo.set(destination, source.length);
  new DataView(pseudo.buffer).setUint32(source.length * 2, segment.length);
  pseudo[pseudo.length - 1] = protocol;
  const usesPseudoHeader = protocol !== 1;
  const checksum = internetChecksum(usesPseudoHeader ? [pseudo, segment] : [segment]);
  const onWire = checksum === 0 && protocol === 17 ? 0xffff : checksum;
  new DataView(segment.buffer, segment.byteOffset).setUint16(offset, onWire);
  if (version6 && protocol === 1) throw new Error('ICMP for IPv6 is protocol 58');
}

/** RFC 1071, over parts of even length but the last. */
export function internetChecksum(parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let index = 0; index < part.length; index += 2) {
      sum += ((part[index] ?? 0) << 8) | (part[index + 1] ?? 0);
    }
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function ipv4Packet(
  spec: PacketSpec,
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  transport: Uint8Array,
): Uint8Array {
  const options = spec.options ?? new Uint8Array(0);
  const headerLength = 20 + options.length;
  const packet = new Uint8Array(headerLength + transport.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x40 | (headerLength / 4));
  view.setUint16(2, packet.length);
  view.setUint16(4, 0x1234);
  view.setUint8(8, 64);
  view.setUint8(9, protocol);
  packet.set(source, 12);
  packet.set(destination, 16);
  packet.set(options, 20);
  view.setUint16(10, internetChecksum([packet.subarray(0, headerLength)]));
  packet.set(transport, headerLength);
  return packet;
}

function ipv6Packet(
  spec: PacketSpec,
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  transport: Uint8Array,
): Uint8Array {
  const extensions = spec.extensions ?? [];
  const extensionLength = extensions.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const packet = new Uint8Array(40 + extensionLength + transport.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x60000000);
  view.setUint16(4, extensionLength + transport.length);
  view.setUint8(6, extensions[0]?.[0] ?? protocol);
  view.setUint8(7, 64);
  packet.set(source, 8);
  packet.set(destination, 24);
  let offset = 40;
  extensions.forEach(([, bytes], index) => {
    packet.set(bytes, offset);
    packet[offset] = extensions[index + 1]?.[0] ?? protocol;
    offset += bytes.length;
  });
  packet.set(transport, offset);
  return packet;
}

export type SecurityHeader = 'AH' | 'ESP';

/** Protects a packet without options or extension headers in transport mode (RFC 4302, RFC 4303), unencrypted. */
export function securedPacket(packet: Uint8Array, header: SecurityHeader): Uint8Array {
  const version6 = packet[0]! >> 4 === 6;
  const headerLength = version6 ? 40 : 20;
  const protocolAt = version6 ? 6 : 9;
  const protocol = packet[protocolAt]!;
  const data = packet.subarray(headerLength);
  const secured = Uint8Array.from([
    ...packet.subarray(0, headerLength),
    ...(header === 'AH' ? authenticated(protocol, data) : encapsulated(protocol, data)),
  ]);
  const view = new DataView(secured.buffer);
  secured[protocolAt] = header === 'AH' ? 51 : 50;
  if (version6) {
    view.setUint16(4, secured.length - headerLength);
  } else {
    view.setUint16(2, secured.length);
    view.setUint16(10, 0);
    view.setUint16(10, internetChecksum([secured.subarray(0, headerLength)]));
  }
  return secured;
}

/** The header has the index 1, the number 1 and an integrity check value of 12 bytes. */
function authenticated(protocol: number, data: Uint8Array): Uint8Array {
  const header = [protocol, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, ...Array<number>(12).fill(0xa5)];
  return Uint8Array.from([...header, ...data]);
}

/** The padding makes the trailer end at a multiple of four bytes. */
function encapsulated(protocol: number, data: Uint8Array): Uint8Array {
  const padding = Array.from({ length: -(data.length + 2) & 3 }, (_unused, index) => index + 1);
  return Uint8Array.from([0, 0, 0, 1, 0, 0, 0, 1, ...data, ...padding, padding.length, protocol]);
}

/** Cuts a packet without options or extension headers into fragments that carry `size` bytes each, a multiple of eight. */
export function fragmentsOf(
  packet: Uint8Array,
  size: number,
  identification: number,
): Uint8Array[] {
  const version6 = (packet[0] ?? 0) >> 4 === 6;
  const headerLength = version6 ? 40 : 20;
  const data = packet.subarray(headerLength);
  const fragments: Uint8Array[] = [];
  for (let offset = 0; offset < data.length; offset += size) {
    const piece = data.subarray(offset, offset + size);
    const more = offset + size < data.length;
    const place = { offset, more, identification };
    fragments.push(
      version6
        ? ipv6Fragment(packet.subarray(0, headerLength), piece, place)
        : ipv4Fragment(packet.subarray(0, headerLength), piece, place),
    );
  }
  return fragments;
}

interface Place {
  readonly offset: number;
  readonly more: boolean;
  readonly identification: number;
}

function ipv4Fragment(header: Uint8Array, piece: Uint8Array, place: Place): Uint8Array {
  const fragment = new Uint8Array([...header, ...piece]);
  const view = new DataView(fragment.buffer);
  view.setUint16(2, fragment.length);
  view.setUint16(4, place.identification);
  view.setUint16(6, (place.more ? 0x2000 : 0) | (place.offset / 8));
  view.setUint16(10, 0);
  view.setUint16(10, internetChecksum([fragment.subarray(0, header.length)]));
  return fragment;
}

function ipv6Fragment(header: Uint8Array, piece: Uint8Array, place: Place): Uint8Array {
  const fragment = new Uint8Array([...header, ...new Uint8Array(8), ...piece]);
  const view = new DataView(fragment.buffer);
  view.setUint16(4, fragment.length - header.length);
  view.setUint8(header.length, view.getUint8(6));
  view.setUint8(6, 44);
  view.setUint16(header.length + 2, place.offset | (place.more ? 1 : 0));
  view.setUint32(header.length + 4, place.identification);
  return fragment;
}

/** Source address and port, destination address and port of a TCP or UDP packet without options or extension headers. */
export function endsOf(packet: Uint8Array): [string, number, string, number] {
  const version6 = (packet[0] ?? 0) >> 4 === 6;
  const [addresses, length, ports] = version6 ? [8, 16, 40] : [12, 4, 20];
  const address = (offset: number): string =>
    formatAddress(packet.subarray(offset, offset + length));
  const port = (offset: number): number => ((packet[offset] ?? 0) << 8) | (packet[offset + 1] ?? 0);
  return [address(addresses), port(ports), address(addresses + length), port(ports + 2)];
}
