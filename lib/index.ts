/**
 * Decide on every network connection of a computer, or of a simulated one.
 *
 * @packageDocumentation
 */

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
} from './base/errors.js';
export type { LoadResult, ReplaySummary } from './addon/native.cjs';
export { formatAddress, parseAddress, parsePrefix, type AddressPrefix } from './codec/addresses.js';
export {
  encodeCommand,
  type Command,
  type ConnectionIdentity,
  type PlainCommand,
  type PlainCommandName,
  type UpdateCommand,
  type VerdictCommand,
} from './codec/commands.js';
export { InfoDecoder, parseInfo } from './codec/decoder.js';
export type { Capabilities, DriverVersion, EngineState, Statistics } from './codec/driver_info.js';
export type { DriverOptions } from './codec/driver_options.js';
export {
  BandwidthEntry,
  BandwidthEvent,
  ConnectionEndEvent,
  ConnectionEndedRecord,
  ConnectionEvent,
  ConnectionInfoRecord,
  LogEvent,
  LostEvent,
  ProcessInfoRecord,
  ProtocolErrorEvent,
  ReplyEndRecord,
  ResolvedConnection,
  StalledEvent,
  TimeoutEvent,
  UnknownEvent,
  type Direction,
  type EndReason,
  type EventOf,
  type EventType,
  type InfoRecord,
  type LogSeverity,
  type LossReason,
  type NetVerdictEvent,
  type RedirectOptions,
  type TimeoutCause,
  type VerdictOptions,
} from './codec/events.js';
export { ConnectionSnapshot } from './codec/snapshot.js';
export { Verdict, type RedirectTarget, type VerdictName } from './codec/verdicts.js';
export {
  Device,
  type BatchesOptions,
  type EventsOptions,
  type LogLine,
  type WatchBandwidthOptions,
} from './device/device.js';
export { open } from './device/open.js';
export type { ClientOptions, OpenOptions, ReadOptions } from './device/options.js';
export { Flow, Listener } from './simulator/flow.js';
export { Network, type NetworkCounters, type PacketCounters } from './simulator/network.js';
export type {
  AcceptOptions,
  ArriveOptions,
  ConnectOptions,
  Endpoint,
  FlowOptions,
  FlowProtocol,
  IcmpMessage,
  Link,
  ListenEndpoint,
  ListenOptions,
  LoadOptions,
  Outcome,
  Redirected,
  RemoteEndpoint,
  ReplayOptions,
  ReplayProgress,
} from './simulator/network_options.js';
export {
  createSimulator,
  type Clock,
  type Simulator,
  type SimulatorOptions,
} from './simulator/simulator.js';
export {
  service,
  type DriverService,
  type InstallOptions,
  type InstalledDriver,
  type ServiceOptions,
  type UpdateOptions,
  type WaitOptions,
} from './service/service.js';
export type {
  ServiceStartType,
  ServiceState,
  ServiceStatus,
  UpdateResult,
} from './service/service_status.js';
export { Policy, type PolicyMatch, type PolicySubject } from './policy/policy.js';
