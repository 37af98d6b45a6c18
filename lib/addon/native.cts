/** The native addon: what it exports, and where it is found. @internal */

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
  /** The next filled read, as a buffer of the caller's own; null: none now, and onReadable tells when to ask again. */
  take(): Uint8Array | null;
  /** Set once take() has returned everything. */
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
}

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
  /** Empty: nothing is written. */
  readonly writeOut: string;
}

export interface NativeReplayProgress {
  readonly frames: number;
  readonly bytes: number;
  readonly totalBytes: number;
}

/** What a replay consisted of and what became of it. */
export interface ReplaySummary {
  /** Frames of the capture. */
  readonly frames: number;
  /** Captured bytes of those frames. */
  readonly bytes: number;
  /** Offered to the packet layers. */
  readonly ipPackets: number;
  /** Of these, IP fragments. */
  readonly fragments: number;
  /** ARP and the like. */
  readonly nonIpFrames: number;
  /** Between two other computers. */
  readonly foreignFrames: number;
  /** Too short or inconsistent to be offered. */
  readonly malformedFrames: number;
  /** Conversations over TCP. */
  readonly tcpConversations: number;
  /** Conversations over UDP. */
  readonly udpConversations: number;
  /** Packets that are neither TCP nor UDP. */
  readonly otherPackets: number;
  /** Where the file breaks off before its end; else empty. */
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

/** What became of a load. */
export interface LoadResult {
  /** How long it took. */
  readonly seconds: number;
  /** Connections that were let through. */
  readonly permitted: number;
  /** Connections that were blocked. */
  readonly blocked: number;
  /** Connections that were dropped, or not decided in time. */
  readonly dropped: number;
  /** Microseconds from each connect to its outcome, in order; empty unless `inFlight` was 1. */
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
  packet(direction: 0 | 1, bytes: Uint8Array, onOutcome: OnNativeOutcome): void;
  reauthorize(): void;
  replay(
    options: NativeReplayOptions,
    onProgress: (progress: NativeReplayProgress) => void,
  ): NativeReplay;
  /** One that is over is left alone. */
  stopReplay(id: number): void;
  load(options: NativeLoadOptions): Promise<LoadResult>;
  advance(milliseconds: number): void;
  counters(): NativeCounters;
  poolBytes(): number;
  injectFaults(oneIn: number): void;
  injectedFaults(): number;
  onWire(callback: null | ((direction: 0 | 1, bytes: Uint8Array) => void)): void;
}

/** A simulated computer with the driver loaded, and its network. */
export interface NativeComputer extends NativeNetwork {
  /** Its device is closed, too. What is awaited of the network is settled before the promise is. */
  close(): Promise<void>;
}

/** How a request to the service control manager ended. */
export interface NativeServiceResult {
  /** A Win32 error; 0 is success. */
  readonly code: number;
  /** The function of Windows that gave it. */
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

/** The driver's service. No promise rejects; none waits for a state. */
export interface NativeService {
  install(config: NativeServiceConfig): Promise<NativeServiceResult>;
  start(name: string): Promise<NativeServiceResult>;
  stop(name: string): Promise<NativeServiceResult>;
  remove(name: string): Promise<NativeServiceResult>;
  query(name: string): Promise<NativeServiceStatus>;
  /** Undefined where Windows does not say. */
  isTestSigningOn(): boolean | undefined;
}

/** What the addon exports depends on the platform that it was built for. Constructors throw an Error with a `status`. */
export interface Binding {
  readonly service?: NativeService;
  readonly EmbeddedComputer?: new (options: ComputerOptions) => NativeComputer;
  /** Of the driver on that computer, which takes one client at a time. */
  readonly EmbeddedDevice?: new (
    computer: NativeComputer,
    options: PumpOptions,
    onReadable: () => void,
  ) => NativeDevice;
  readonly WindowsDevice?: new (options: WindowsOptions, onReadable: () => void) => NativeDevice;
}

/**
 * Loads the addon: a prebuilt one that fits, or the one that was built on this computer.
 *
 * @throws whatever node-gyp-build or the dynamic linker says.
 */
export function loadBinding(): Binding {
  return nodeGypBuild(join(__dirname, '..', '..')) as Binding;
}
