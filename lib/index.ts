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
  type PlainCommand,
  type PlainCommandName,
  type UpdateCommand,
  type VerdictCommand,
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
  DriverRefusedError,
  DriverShutdownError,
  InvalidArgumentError,
  NetVerdictError,
  NotFoundError,
  ProtocolError,
  ServiceStateError,
  TimeoutError,
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
  type EventOf,
  type EventType,
  type InfoRecord,
  type LogSeverity,
  type LossReason,
  type NetVerdictEvent,
  type RedirectOptions,
  type VerdictOptions,
} from './events.js';
export { Flow, Listener } from './flow.js';
export type { LoadResult, ReplaySummary } from './native.cjs';
export { open } from './open.js';
export type { ClientOptions, DriverOptions, OpenOptions, ReadOptions } from './options.js';
export { Policy, type PolicyMatch, type PolicySubject } from './policy.js';
export { Network, type NetworkCounters, type PacketCounters } from './network.js';
export type {
  AcceptOptions,
  ConnectOptions,
  Endpoint,
  FlowOptions,
  FlowProtocol,
  ListenEndpoint,
  ListenOptions,
  LoadOptions,
  Outcome,
  Redirected,
  RemoteEndpoint,
  ReplayOptions,
  ReplayProgress,
} from './network_options.js';
export {
  service,
  type DriverService,
  type InstallOptions,
  type ServiceOptions,
  type ServiceStartType,
  type ServiceState,
  type ServiceStatus,
  type WaitOptions,
} from './service.js';
export { createSimulator, type Clock, type Simulator, type SimulatorOptions } from './simulator.js';
export { Verdict, type RedirectTarget, type VerdictName } from './verdicts.js';
