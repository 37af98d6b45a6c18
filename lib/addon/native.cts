/** The exports of the native addon, and how to load it. @internal */

import { join } from 'node:path';
import nodeGypBuild from 'node-gyp-build';

export interface PumpOptions {
  readonly readBuffers: number;
  readonly readBufferSize: number;
  readonly highWaterMark: number;
}

export interface ComputerOptions {
  readonly virtualClock: boolean;
  readonly verifier: boolean;
}

export interface WindowsOptions extends PumpOptions {
  readonly path: string;
}

export interface ReadEnd {
  readonly reason: 'eof' | 'cancelled' | 'error';
  readonly status: number;
}

export interface NativeDevice {
  /** Begins to read. A driver of the base protocol may keep the reading thread, and options must be set before. */
  start(): void;
  /** The next completed read, in a buffer that the caller owns. Null means none now: onReadable announces the next. */
  take(): Uint8Array | null;
  /** Why reading ended; null until take() has returned every read. */
  readonly end: ReadEnd | null;
  write(bytes: Uint8Array): { readonly status: number; readonly information: number };
  control(
    code: number,
    input: Uint8Array,
    outputLength: number,
  ): { readonly status: number; readonly output: Uint8Array };
  ref(): void;
  unref(): void;
  close(): Promise<void>;
}

export interface NativeFlowSpec {
  readonly processId: number;
  readonly processPath: string;
  readonly protocol: number;
  readonly localAddress: Uint8Array;
  readonly localPort: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  readonly payload?: Uint8Array;
  readonly loopback?: boolean;
  readonly link?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  /** Addresses of multicast groups. */
  readonly groups?: readonly Uint8Array[];
}

/** An outbound or inbound packet at its packet layer alone, one from the wire, or one that is forwarded. */
export type NativePacketWay = 0 | 1 | 2 | 3;

export interface NativeOutcome {
  readonly kind: 'permitted' | 'blocked' | 'dropped' | 'pending-timeout' | 'redirected';
  readonly address?: Uint8Array;
  readonly port?: number;
}

export type OnNativeOutcome = (outcome: NativeOutcome) => void;

export interface NativeReplayOptions {
  readonly path: string;
  readonly local: readonly { readonly address: Uint8Array; readonly prefix: number }[];
  readonly speed: number;
  /** The path of a pcapng file; empty to write none. */
  readonly writeOut: string;
}

export interface NativeReplayProgress {
  readonly frames: number;
  readonly bytes: number;
  readonly totalBytes: number;
}

/** The contents of a replayed capture. */
export interface ReplaySummary {
  /** Frames in the capture. */
  readonly frames: number;
  /** Captured bytes of these frames. */
  readonly bytes: number;
  /** IP packets indicated to the packet layers. */
  readonly ipPackets: number;
  /** IP fragments among these packets. */
  readonly fragments: number;
  /** Frames without IP, such as ARP. */
  readonly nonIpFrames: number;
  /** Frames between two other computers. */
  readonly foreignFrames: number;
  /** Frames that are too short or inconsistent to be indicated. */
  readonly malformedFrames: number;
  /** TCP conversations. */
  readonly tcpConversations: number;
  /** UDP conversations. */
  readonly udpConversations: number;
  /** Packets of protocols other than TCP and UDP. */
  readonly otherPackets: number;
  /** Says where a truncated file breaks off; empty for a whole file. */
  readonly warning: string;
}

export interface NativeReplay {
  readonly id: number;
  readonly done: Promise<ReplaySummary>;
}

export interface NativeLoadOptions {
  readonly connections: number;
  readonly inFlight: number;
  readonly protocol: number;
  readonly ipVersion: 4 | 6;
  readonly packetsPerConnection: number;
  readonly payloadLength: number;
}

/** The result of a load. */
export interface LoadResult {
  /** The duration in seconds. */
  readonly seconds: number;
  /** Connections permitted. */
  readonly permitted: number;
  /** Connections blocked. */
  readonly blocked: number;
  /** Connections dropped, or not decided in time. */
  readonly dropped: number;
  /** Microseconds from each connect to its outcome, in connect order; empty unless `inFlight` was 1. */
  readonly latencies: Float32Array;
}

export interface NativePacketCounters {
  readonly offered: number;
  readonly permitted: number;
  readonly blocked: number;
  readonly dropped: number;
  readonly heldNow: number;
  readonly heldTotal: number;
  readonly injected: number;
}

export interface NativeCounters {
  readonly outbound: NativePacketCounters;
  readonly inbound: NativePacketCounters;
  readonly flowsNow: number;
  readonly flowsTotal: number;
  readonly streamBytesSent: number;
  readonly streamBytesReceived: number;
  readonly datagramBytesSent: number;
  readonly datagramBytesReceived: number;
  readonly pendingTimeouts: number;
}

export interface NativeNetwork {
  connect(spec: NativeFlowSpec, onOutcome: OnNativeOutcome): number;
  accept(spec: NativeFlowSpec, onOutcome: OnNativeOutcome): number;
  listen(spec: NativeFlowSpec): number;
  closeListener(id: number): void;
  send(flow: number, bytes: Uint8Array, onOutcome?: OnNativeOutcome): void;
  receive(flow: number, bytes: Uint8Array, onOutcome?: OnNativeOutcome): void;
  closeFlow(flow: number): void;
  packet(way: NativePacketWay, bytes: Uint8Array, onOutcome: OnNativeOutcome, link?: number): void;
  acceptSecured(): void;
  reauthorize(): void;
  replay(
    options: NativeReplayOptions,
    onProgress: (progress: NativeReplayProgress) => void,
  ): NativeReplay;
  /** Has no effect on a finished replay. */
  stopReplay(id: number): void;
  load(options: NativeLoadOptions): Promise<LoadResult>;
  advance(milliseconds: number): void;
  counters(): NativeCounters;
  poolBytes(): number;
  injectFaults(oneIn: number): void;
  injectedFaults(): number;
  /** For tests. The numbers are those of sim/wfp/hindrance.h; `status` is an NTSTATUS. */
  hinderEngine(hindrance: number, status: number): void;
  /** The number of layers at which the filter engine has filters. */
  filteredLayers(): number;
  onWire(callback: null | ((direction: 0 | 1, bytes: Uint8Array) => void)): void;
}

/** A simulated computer that has loaded the driver, and its network. */
export interface NativeComputer extends NativeNetwork {
  /** Also closes the device. Pending outcomes and replays settle before the promise does. */
  close(): Promise<void>;
}

/** The result of a request to the service control manager. */
export interface NativeServiceResult {
  /** A Win32 error code; 0 for success. */
  readonly code: number;
  /** The Windows function that returned it. */
  readonly call: string;
}

export interface NativeServiceStatus extends NativeServiceResult {
  readonly state: number;
  readonly exitCode: number;
  readonly startType: number;
  readonly path: string;
}

export interface NativeServiceConfig {
  readonly name: string;
  readonly displayName: string;
  readonly path: string;
  readonly startType: number;
}

/** Requests for the driver's service. Promises never reject, and do not wait for a service state. */
export interface NativeService {
  install(config: NativeServiceConfig): Promise<NativeServiceResult>;
  /** Makes another file the driver, from the next start on. */
  setPath(name: string, path: string): Promise<NativeServiceResult>;
  /** Copies a driver to a new file, whose name begins with `name`. Fails if others than administrators may write it. */
  copyDriver(
    source: string,
    name: string,
  ): Promise<NativeServiceResult & { readonly path: string }>;
  /** Deletes a copy. Has no effect on other files. */
  deleteDriver(path: string): Promise<NativeServiceResult>;
  /** The version in the file's resources, such as `1.2.3.4`. */
  versionOf(path: string): string | undefined;
  start(name: string): Promise<NativeServiceResult>;
  stop(name: string): Promise<NativeServiceResult>;
  remove(name: string): Promise<NativeServiceResult>;
  query(name: string): Promise<NativeServiceStatus>;
  /** Undefined if Windows does not report it. */
  isTestSigningOn(): boolean | undefined;
}

/** The exports of the addon, which depend on its platform. Constructors throw an Error with a `status`. */
export interface Binding {
  readonly service?: NativeService;
  readonly EmbeddedComputer?: new (options: ComputerOptions) => NativeComputer;
  /** A client of the driver on `computer`. The driver takes one client at a time. */
  readonly EmbeddedDevice?: new (
    computer: NativeComputer,
    options: PumpOptions,
    onReadable: () => void,
  ) => NativeDevice;
  readonly WindowsDevice?: new (options: WindowsOptions, onReadable: () => void) => NativeDevice;
}

/**
 * Loads the addon: the prebuilt one for this platform, or one that was built on this computer.
 *
 * @throws the error of node-gyp-build or of the dynamic linker.
 */
export function loadBinding(): Binding {
  return nodeGypBuild(join(__dirname, '..', '..')) as Binding;
}
