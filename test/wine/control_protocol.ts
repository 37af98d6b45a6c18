/** The control protocol of the simulation under Wine: sim/wine/control_protocol.h in TypeScript. */

import type {
  LoadResult,
  NativeCounters,
  NativeFlowSpec,
  NativeLoadOptions,
  NativeOutcome,
  NativePacketCounters,
  NativeReplayOptions,
  NativeReplayProgress,
  ReplaySummary,
} from '../../lib/addon/native.cjs';
import { ControlReader, ControlWriter } from './control_bytes.js';

export const CONTROL_EVENT_BYTES = 256 * 1024;

export const Operation = {
  begin: 0,
  end: 1,
  events: 2,
  connect: 3,
  accept: 4,
  listen: 5,
  closeListener: 6,
  send: 7,
  receive: 8,
  closeFlow: 9,
  packet: 10,
  reauthorize: 11,
  wire: 12,
  counters: 13,
  engine: 14,
  load: 15,
  replay: 16,
  stopReplay: 17,
  hinder: 18,
  acceptSecured: 19,
} as const;

const OUTCOME_KINDS = ['permitted', 'blocked', 'dropped', 'pending-timeout', 'redirected'] as const;

export type ControlEvent = { readonly tag: number } & (
  | { readonly kind: 'outcome'; readonly outcome: NativeOutcome }
  | { readonly kind: 'wire'; readonly direction: 0 | 1; readonly packet: Uint8Array }
  | { readonly kind: 'loaded'; readonly result: LoadResult }
  | { readonly kind: 'progress'; readonly progress: NativeReplayProgress }
  | { readonly kind: 'replayed'; readonly summary: ReplaySummary }
  | { readonly kind: 'failed'; readonly message: string }
);

export function request(operation: number): ControlWriter {
  return new ControlWriter().u8(operation);
}

export function writeFlow(writer: ControlWriter, flow: NativeFlowSpec): ControlWriter {
  const path = Buffer.from(flow.processPath, 'utf16le');
  writer
    .u8(flow.protocol)
    .u8(flow.remoteAddress.length === 4 ? 4 : 6)
    .u8(flow.loopback ? 1 : 0)
    .u64(flow.processId)
    .address(flow.localAddress)
    .u16(flow.localPort)
    .address(flow.remoteAddress)
    .u16(flow.remotePort)
    .u8(flow.link ?? 0)
    .u8(flow.icmp ? 1 : 0)
    .u8(flow.icmp?.type ?? 0)
    .u8(flow.icmp?.code ?? 0)
    .u8(flow.groups?.length ?? 0);
  for (const group of flow.groups ?? []) {
    writer.address(group).u16(0);
  }
  return writer
    .u16(path.length)
    .bytes(path)
    .bytes(flow.payload ?? new Uint8Array(0));
}

export function writeLoad(writer: ControlWriter, options: NativeLoadOptions): ControlWriter {
  return writer
    .u64(options.connections)
    .u32(options.inFlight)
    .u8(options.protocol)
    .u8(options.ipVersion)
    .u32(options.packetsPerConnection)
    .u32(options.payloadLength);
}

export function writeReplay(writer: ControlWriter, options: NativeReplayOptions): ControlWriter {
  writer.f64(options.speed).u16(options.local.length);
  for (const { address, prefix } of options.local) {
    writer
      .u8(address.length === 4 ? 4 : 6)
      .address(address)
      .u8(prefix);
  }
  return writer.bytes(Buffer.from(options.path, 'utf8'));
}

export function readCounters(reader: ControlReader): NativeCounters {
  return {
    outbound: readPackets(reader),
    inbound: readPackets(reader),
    flowsNow: reader.u64(),
    flowsTotal: reader.u64(),
    streamBytesSent: reader.u64(),
    streamBytesReceived: reader.u64(),
    datagramBytesSent: reader.u64(),
    datagramBytesReceived: reader.u64(),
    pendingTimeouts: reader.u64(),
  };
}

/** Decodes the events of one read. */
export function readEvents(bytes: Buffer): ControlEvent[] {
  const reader = new ControlReader(bytes);
  const events: ControlEvent[] = [];
  while (!reader.isAtEnd) {
    events.push(readEvent(new ControlReader(reader.bytes(reader.u32()))));
  }
  return events;
}

function readEvent(reader: ControlReader): ControlEvent {
  const kind = reader.u8();
  const tag = reader.u64();
  switch (kind) {
    case 1:
      return { tag, kind: 'outcome', outcome: readOutcome(reader) };
    case 2: {
      const direction = reader.u8() === 0 ? 0 : 1;
      return { tag, kind: 'wire', direction, packet: Uint8Array.from(reader.rest()) };
    }
    case 3:
      return { tag, kind: 'loaded', result: readLoadResult(reader) };
    case 4: {
      const progress = { frames: reader.u64(), bytes: reader.u64(), totalBytes: reader.u64() };
      return { tag, kind: 'progress', progress };
    }
    case 5:
      return { tag, kind: 'replayed', summary: readSummary(reader) };
    case 6:
      return { tag, kind: 'failed', message: reader.rest().toString('utf8') };
    default:
      throw new Error(`The simulation sent an unknown event, kind ${kind}.`);
  }
}

function readOutcome(reader: ControlReader): NativeOutcome {
  const kind = OUTCOME_KINDS[reader.u8()]!;
  if (kind !== 'redirected') return { kind };
  const family = reader.u8();
  const address = Uint8Array.from(reader.bytes(16).subarray(0, family === 4 ? 4 : 16));
  return { kind, address, port: reader.u16() };
}

function readPackets(reader: ControlReader): NativePacketCounters {
  return {
    offered: reader.u64(),
    permitted: reader.u64(),
    blocked: reader.u64(),
    dropped: reader.u64(),
    heldNow: reader.u64(),
    heldTotal: reader.u64(),
    injected: reader.u64(),
  };
}

function readLoadResult(reader: ControlReader): LoadResult {
  return {
    seconds: reader.f64(),
    permitted: reader.u64(),
    blocked: reader.u64(),
    dropped: reader.u64(),
    latencies: new Float32Array(Uint8Array.from(reader.rest()).buffer),
  };
}

function readSummary(reader: ControlReader): ReplaySummary {
  return {
    frames: reader.u64(),
    bytes: reader.u64(),
    ipPackets: reader.u64(),
    fragments: reader.u64(),
    nonIpFrames: reader.u64(),
    foreignFrames: reader.u64(),
    malformedFrames: reader.u64(),
    tcpConversations: reader.u64(),
    udpConversations: reader.u64(),
    otherPackets: reader.u64(),
    warning: reader.rest().toString('utf8'),
  };
}
