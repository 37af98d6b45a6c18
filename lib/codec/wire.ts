/**
 * The wire protocol: its numbers, and where each field lies.
 *
 * Integers are little-endian, addresses are in network byte order, and nothing is padded.
 * A layout lists fields in wire order; offsets follow from the sizes. No other file has an offset.
 * @internal
 */

const U8 = 1;
const U16 = 2;
const U32 = 4;
const U64 = 8;

const HIGH_WORD = 0x1_0000_0000;

/** The offset of each field, and the size of all of them in bytes. */
export type Layout<Field extends string> = Readonly<Record<Field | 'byteLength', number>>;

/** A layout with addresses. Its offsets depend on the IP version. */
export type AddressedLayout<Field extends string> = Layout<Field> & {
  readonly ipVersion: 4 | 6;
  /** The size of one address in bytes. */
  readonly addressLength: number;
};

export type EndpointsLayout = AddressedLayout<
  'localAddress' | 'localPort' | 'remoteAddress' | 'remotePort'
>;

/** Computes offsets from field sizes, given in wire order. */
function layout<Field extends string>(sizes: Readonly<Record<Field, number>>): Layout<Field> {
  const offsets: Record<string, number> = {};
  let byteLength = 0;
  for (const [field, size] of Object.entries<number>(sizes)) {
    offsets[field] = byteLength;
    byteLength += size;
  }
  return { ...offsets, byteLength } as Layout<Field>;
}

/** Computes the layouts for IPv4 and IPv6 from field sizes, given the size of an address. */
function addressedLayouts<Field extends string>(
  sizes: (address: number) => Readonly<Record<Field, number>>,
): { readonly v4: AddressedLayout<Field>; readonly v6: AddressedLayout<Field> } {
  return {
    v4: { ...layout(sizes(4)), ipVersion: 4, addressLength: 4 },
    v6: { ...layout(sizes(16)), ipVersion: 6, addressLength: 16 },
  };
}

export const RecordHeaderLayout = layout({ type: U8, length: U32 });

/** A longer record means that the stream is corrupt. */
export const MAX_RECORD_LENGTH = 16 * 1024 * 1024;

export const InfoType = {
  LogLine: 0,
  ConnectionV4: 1,
  ConnectionV6: 2,
  ConnectionEndV4: 3,
  ConnectionEndV6: 4,
  BandwidthStatsV4: 5,
  BandwidthStatsV6: 6,
  EventsLost: 64,
  ReplyEnd: 65,
  ProcessInfo: 66,
  ConnectionTimeout: 67,
  // Extension 2.
  ClientStalled: 68,
  ConnectionInfo: 69,
  ConnectionEnded: 70,
} as const;

/** The payload follows. An end record has the part from `processId` to `remotePort` alone. */
export const ConnectionLayout = addressedLayouts((address) => ({
  id: U64,
  processId: U64,
  direction: U8,
  protocol: U8,
  localAddress: address,
  remoteAddress: address,
  localPort: U16,
  remotePort: U16,
  payloadLayer: U8,
  payloadLength: U32,
}));
export type ConnectionLayout = (typeof ConnectionLayout)['v4'];

/** As many entries as `count` says follow. */
export const BandwidthStatsLayout = layout({ protocol: U8, count: U32 });

export const BandwidthEntryLayout = addressedLayouts((address) => ({
  localAddress: address,
  localPort: U16,
  remoteAddress: address,
  remotePort: U16,
  transmittedBytes: U64,
  receivedBytes: U64,
}));
export type BandwidthEntryLayout = (typeof BandwidthEntryLayout)['v4'];

/** The line follows, in UTF-8. */
export const LogLineLayout = layout({ severity: U8 });

/** Extension 2 appends `EventsLostOwnerLayout`. */
export const EventsLostLayout = layout({ count: U64, reason: U8 });
export const EventsLostOwnerLayout = layout({ processId: U64 });

export const ReplyEndLayout = layout({ command: U8, sequence: U64 });

/** The image path follows, in UTF-16LE. */
export const ProcessInfoLayout = layout({ processId: U64 });
export const PATH_CHARACTER_SIZE = U16;
/** Windows has no longer paths: the length of a UNICODE_STRING is a 16-bit number of bytes. */
export const MAX_PATH_LENGTH = 0xfffe;

/** Extension 2 appends `ConnectionTimeoutVerdictLayout`. */
export const ConnectionTimeoutLayout = layout({ id: U64 });
/** The body of an end record of this type follows. */
export const ConnectionTimeoutVerdictLayout = layout({ verdict: U8, cause: U8, type: U8 });

export const ClientStalledLayout = layout({ count: U64, durationMs: U64 });

export const ConnectionInfoLayout = layout({
  id: U64,
  time: U64,
  processStart: U64,
  flags: U32,
  interfaceIndex: U32,
  compartment: U32,
});

/** The bits of the flags of a ConnectionInfo record. */
export const ConnectionInfoFlag = {
  Loopback: 1,
  Multicast: 2,
  Broadcast: 4,
  AskedAgain: 8,
} as const;

export const ConnectionEndedLayout = layout({
  id: U64,
  startTime: U64,
  endTime: U64,
  transmitted: U64,
  received: U64,
  verdict: U8,
  reason: U8,
});

export const CommandType = {
  Shutdown: 0,
  Verdict: 1,
  UpdateV4: 2,
  UpdateV6: 3,
  ClearCache: 4,
  GetLogs: 5,
  GetBandwidthStats: 6,
  PrintMemoryStats: 7,
  CleanEndedConnections: 8,
} as const;

export type CommandType = (typeof CommandType)[keyof typeof CommandType];

export const VerdictLayout = layout({ type: U8, id: U64, verdict: U8 });

export const UpdateLayout = addressedLayouts((address) => ({
  type: U8,
  protocol: U8,
  localAddress: address,
  localPort: U16,
  remoteAddress: address,
  remotePort: U16,
  verdict: U8,
}));

const DEVICE_TYPE = 40000;
const FILE_READ_AND_WRITE_DATA = 3;

function ioctl(functionCode: number): number {
  return ((DEVICE_TYPE << 16) | (FILE_READ_AND_WRITE_DATA << 14) | (functionCode << 2)) >>> 0;
}

export const Ioctl = {
  Version: ioctl(0x800),
  ShutdownRequest: ioctl(0x801),
  GetCapabilities: ioctl(0x810),
  SetOptions: ioctl(0x811),
  GetStatistics: ioctl(0x812),
  Keepalive: ioctl(0x813),
  GetConnections: ioctl(0x814),
  UpdateConnection: ioctl(0x815),
} as const;

export const GetConnectionsLayout = layout({ size: U32, cursor: U64 });

/**
 * As many entries as `count` says follow. An entry is the type of an end record, the body of that record, and
 * `ConnectionEntryLifeLayout`.
 */
export const ConnectionsLayout = layout({ nextCursor: U64, count: U32 });

export const ConnectionEntryLifeLayout = layout({
  id: U64,
  processStart: U64,
  startTime: U64,
  idleMs: U64,
  transmitted: U64,
  received: U64,
  verdict: U8,
  flags: U8,
});

/** The bits of the flags of an entry. */
export const ConnectionEntryFlag = { Reported: 1, Ended: 2, Waiting: 4 } as const;

export const VersionLayout = layout({ major: U8, minor: U8, revision: U8, build: U8 });

export const CapabilitiesLayout = layout({
  size: U32,
  protocolExtension: U32,
  featureBits: U64,
  maxCommandsPerWrite: U32,
});

export const OptionsLayout = layout({
  size: U32,
  flags: U32,
  payloadLimit: U32,
  pendingTimeoutMs: U32,
  timeoutVerdict: U8,
  logLevel: U8,
  dnsPort: U16,
  tunnelPort: U16,
  splitTunnelPort: U16,
  maxQueuedBytes: U32,
  maxHeldPackets: U32,
  stallTimeoutMs: U32,
  maxConnections: U32,
});

/** The length of the options that a driver without extension 2 knows. */
export const BASE_OPTIONS_LENGTH = OptionsLayout.stallTimeoutMs;

/** The bits of the options' flags. */
export const OptionFlag = {
  /** The client understands the record types from 64 on. */
  ExtendedRecords: 0x1,
  /** The driver blocks what it cannot report. */
  FailClosed: 0x2,
  // Extension 2.
  DropStrayResets: 0x4,
  AskControlTraffic: 0x8,
  PermitLoopback: 0x10,
  ConnectionInfo: 0x20,
} as const;

/** The bits of the capabilities' feature bits. A client uses only what it finds there. */
export const Feature = {
  ExtendedRecords: 0x1n,
  Options: 0x2n,
  Statistics: 0x4n,
  CommandBatches: 0x8n,
  // Extension 2.
  Stall: 0x10n,
  MaxConnections: 0x20n,
  GetConnections: 0x40n,
  UpdateConnection: 0x80n,
  ConnectionInfo: 0x100n,
  /** The option flags from `DropStrayResets` to `PermitLoopback`. */
  TrafficFlags: 0x200n,
} as const;

/** The driver's counters in wire order. `null`: no driver counts this yet. */
export const STATISTICS_COUNTERS = [
  'eventsQueued',
  'eventsDelivered',
  'eventsLost',
  'bytesDelivered',
  'readsCompleted',
  'verdictsApplied',
  'verdictsUnknownId',
  'commandsRejected',
  'packetsHeld',
  'connections',
  'bandwidthEntries',
  'poolBytes',
  'poolBytesPeak',
  'packetsPermitted',
  'packetsBlocked',
  'packetsInjected',
  'injectFailures',
  'packetsRedirected',
  'fragmentsBlocked',
  'malformedPackets',
  'clientStalls',
  null,
  null,
  null,
  null,
  null,
  'engineRetries',
  'engineState',
] as const;

/** The states of the filter engine, by their number on the wire. */
export const ENGINE_STATES = ['stopped', 'refused', 'busy', 'ready', 'filtering', 'lost'] as const;

export const COUNTER_SIZE = U64;

/** The counters follow, each of `COUNTER_SIZE` bytes. */
export const StatisticsHeaderLayout = layout({ size: U32 });

/** Reads the lower half of a 64-bit field. */
export function readLowWord(view: DataView, offset: number): number {
  return view.getUint32(offset, true);
}

/** Reads the upper half of a 64-bit field. */
export function readHighWord(view: DataView, offset: number): number {
  return view.getUint32(offset + U32, true);
}

/** Reads a 64-bit field as a number, which is exact up to 2^53. */
export function readNumber(view: DataView, offset: number): number {
  return readLowWord(view, offset) + readHighWord(view, offset) * HIGH_WORD;
}

/** 1970-01-01 in units of 100 ns since 1601-01-01. */
const EPOCH = 116_444_736_000_000_000n;

/** Reads a time as milliseconds since the epoch; undefined for 0, which stands for an unknown time. */
export function readTime(view: DataView, offset: number): number | undefined {
  const time = view.getBigUint64(offset, true);
  return time === 0n ? undefined : Number(time - EPOCH) / 10_000;
}

/** Writes a 64-bit field from its two halves. */
export function writeWords(view: DataView, offset: number, low: number, high: number): void {
  view.setUint32(offset, low, true);
  view.setUint32(offset + U32, high, true);
}
