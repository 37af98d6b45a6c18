/** The numbers of the wire protocol. All integers are little-endian, nothing is padded. @internal */

export const RECORD_HEADER_SIZE = 5;

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
} as const;

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

export const VERDICT_COMMAND_SIZE = 10;

/** With 4-byte addresses; each further address byte counts twice. */
export const UPDATE_COMMAND_SIZE_V4 = 15;

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
} as const;

/** Bit 0 of the options' flags: the client understands the records from 64 on. */
export const OPTION_EXTENDED_RECORDS = 1;
/** Bit 1 of the options' flags: what cannot be asked about is blocked. */
export const OPTION_FAIL_CLOSED = 2;

export const VERSION_SIZE = 4;
export const CAPABILITIES_SIZE = 20;
export const OPTIONS_SIZE = 32;
