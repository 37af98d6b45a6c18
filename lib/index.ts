/**
 * Decide over every network connection of a computer, or of a simulated one.
 *
 * @packageDocumentation
 */

export { formatAddress, parseAddress, parsePrefix, type AddressPrefix } from './addresses.js';
export {
  encodeCommand,
  type Command,
  type ConnectionIdentity,
  type PlainCommandName,
} from './commands.js';
export { InfoDecoder, parseInfo } from './decoder.js';
export {
  Device,
  type BatchesOptions,
  type EventsOptions,
  type LogLine,
  type WatchBandwidthOptions,
} from './device.js';
export type { Capabilities, DriverVersion, Statistics } from './driver_info.js';
export {
  AccessDeniedError,
  AlreadyDecidedError,
  BusyError,
  ClosedError,
  DeviceError,
  DriverShutdownError,
  InvalidArgumentError,
  NetVerdictError,
  NotFoundError,
  ProtocolError,
  UnsupportedError,
  type ErrorCode,
} from './errors.js';
export {
  BandwidthEntry,
  BandwidthEvent,
  ConnectionEndEvent,
  ConnectionEvent,
  LogEvent,
  LostEvent,
  ProcessInfoRecord,
  ProtocolErrorEvent,
  ReplyEndRecord,
  TimeoutEvent,
  UnknownEvent,
  type Direction,
  type EventType,
  type InfoRecord,
  type LogSeverity,
  type LossReason,
  type NetVerdictEvent,
  type RedirectOptions,
  type VerdictOptions,
} from './events.js';
export { open } from './open.js';
export type { DriverOptions, OpenOptions, ReadOptions } from './options.js';
export { Policy, type PolicySubject } from './policy.js';
export {
  Flow,
  Listener,
  Network,
  createSimulator,
  type AcceptOptions,
  type Clock,
  type ConnectOptions,
  type Endpoint,
  type FlowProtocol,
  type ListenOptions,
  type LoadOptions,
  type LoadResult,
  type Outcome,
  type ReplayOptions,
  type ReplayProgress,
  type ReplaySummary,
  type Simulator,
  type SimulatorOptions,
} from './simulator.js';
export { Verdict, type RedirectTarget, type VerdictName } from './verdicts.js';
