/** Encodes info records as the driver does. */

import { parseAddress } from '../../../lib/codec/addresses.js';

export interface ConnectionFields {
  readonly id?: bigint;
  readonly processId?: bigint;
  readonly direction?: number;
  readonly protocol?: number;
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly payloadLayer?: number;
  readonly payload?: Uint8Array;
}

export interface BandwidthFields {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly transmittedBytes: bigint;
  readonly receivedBytes: bigint;
}

export function record(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(parts);
  return bytes(u8(type), u32(body.length), body);
}

export function bytes(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

export function connection(fields: ConnectionFields = {}): Uint8Array {
  const local = parseAddress(fields.localAddress ?? '192.0.2.10');
  const payload = fields.payload ?? new Uint8Array(0);
  return record(
    local.length === 4 ? 1 : 2,
    u64(fields.id ?? 1n),
    identity(fields),
    u8(fields.payloadLayer ?? 4),
    u32(payload.length),
    payload,
  );
}

export function connectionEnd(fields: ConnectionFields = {}): Uint8Array {
  const local = parseAddress(fields.localAddress ?? '192.0.2.10');
  return record(local.length === 4 ? 3 : 4, identity(fields));
}

export function bandwidth(protocol: number, entries: readonly BandwidthFields[]): Uint8Array {
  const isV6 = entries[0]?.localAddress.includes(':') === true;
  return record(
    isV6 ? 6 : 5,
    u8(protocol),
    u32(entries.length),
    Buffer.concat(entries.map(bandwidthEntry)),
  );
}

export function log(severity: number, message: string): Uint8Array {
  return record(0, u8(severity), Buffer.from(message, 'utf8'));
}

/** With `processId` it is a record of extension 2. */
export function lost(count: bigint, reason: number, processId?: bigint): Uint8Array {
  const owner = processId === undefined ? [] : [u64(processId)];
  return record(64, u64(count), u8(reason), ...owner);
}

export function replyEnd(command: number, sequence: bigint): Uint8Array {
  return record(65, u8(command), u64(sequence));
}

export function processInfo(processId: bigint, path: string): Uint8Array {
  return record(66, u64(processId), Buffer.from(path, 'utf16le'));
}

export function timeout(id: bigint): Uint8Array {
  return record(67, u64(id));
}

/** The form of extension 2, with an end record's body. */
export function timeoutOf(
  id: bigint,
  verdict: number,
  cause: number,
  connection: ConnectionFields = {},
): Uint8Array {
  const end = connectionEnd(connection);
  return record(67, u64(id), u8(verdict), u8(cause), end.subarray(0, 1), end.subarray(5));
}

export function u8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function u32(value: number): Uint8Array {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u16(value: number): Uint8Array {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16LE(value);
  return buffer;
}

function u64(value: bigint): Uint8Array {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(value);
  return buffer;
}

function identity(fields: ConnectionFields): Uint8Array {
  return bytes(
    u64(fields.processId ?? 42n),
    u8(fields.direction ?? 0),
    u8(fields.protocol ?? 6),
    parseAddress(fields.localAddress ?? '192.0.2.10'),
    parseAddress(fields.remoteAddress ?? '198.51.100.1'),
    u16(fields.localPort ?? 49_152),
    u16(fields.remotePort ?? 443),
  );
}

function bandwidthEntry(entry: BandwidthFields): Uint8Array {
  return bytes(
    parseAddress(entry.localAddress),
    u16(entry.localPort),
    parseAddress(entry.remoteAddress),
    u16(entry.remotePort),
    u64(entry.transmittedBytes),
    u64(entry.receivedBytes),
  );
}
