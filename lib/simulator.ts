/** A simulated computer with the driver in it, for the tests of applications. */

import { z } from 'zod';
import { formatAddress, parseAddress, parsePrefix } from './addresses.js';
import { check, portSchema, processIdSchema, signalSchema } from './checks.js';
import type { Device } from './device.js';
import { openEmbedded } from './embedded.js';
import { InvalidArgumentError, NetVerdictError } from './errors.js';
import type { Direction } from './events.js';
import type {
  NativeFlowSpec,
  NativeNetwork,
  NativeOutcome,
  NativeReplay,
  NativeReplaySummary,
} from './native.cjs';
import {
  driverShape,
  readShape,
  resolveOptions,
  type DriverOptions,
  type ReadOptions,
} from './options.js';
import { Protocol } from './protocols.js';

/** An address with a port. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** What a simulated computer is like. */
export interface SimulatorOptions extends DriverOptions, ReadOptions {
  /** `'virtual'`: time stands still but for `clock.advance()`. `'real'`, the default: it goes as everywhere. */
  readonly clock?: 'real' | 'virtual';
  /** Checks the driver's use of memory and locks as Driver Verifier does; on by default. It costs time. */
  readonly verifier?: boolean;
}

/** A simulated computer. */
export interface Simulator extends AsyncDisposable {
  /** The driver's device, as `open()` would give it. */
  readonly device: Device;
  /** The computer's network: what applications and remote ends do. */
  readonly network: Network;
  /** The computer's time. */
  readonly clock: Clock;
  /** Closes the device and ends the computer. */
  close(): Promise<void>;
}

/** The protocols that flows can have. ICMP means ICMPv6 where the addresses are IPv6. */
export type FlowProtocol = 'tcp' | 'udp' | 'icmp';

/** An outgoing connection. */
export interface ConnectOptions {
  readonly processId: number;
  /** The process's image path; one made of the process id by default. */
  readonly processPath?: string;
  readonly protocol: FlowProtocol;
  /** By default an address of the computer of the same IP version, and a port that is free. */
  readonly local?: Partial<Endpoint>;
  /** No port for ICMP. */
  readonly remote: { readonly address: string; readonly port?: number };
  /** The first datagram, the echo data, or what is sent once the connection is up. */
  readonly payload?: Uint8Array;
  /** The remote end is on this computer too. */
  readonly loopback?: boolean;
}

/** An incoming connection; what is left out of `remote` is made up. */
export interface AcceptOptions extends Omit<ConnectOptions, 'local' | 'remote'> {
  /** Where it arrives; for ICMP without a port. */
  readonly local: { readonly address?: string; readonly port?: number };
  readonly remote?: Partial<Endpoint>;
}

/** A socket that listens. */
export interface ListenOptions {
  readonly processId: number;
  readonly processPath?: string;
  readonly protocol: 'tcp' | 'udp';
  /** Without an address: on all of them. */
  readonly local: { readonly address?: string; readonly port: number };
  /** The IP version when there is no address; 4 by default. */
  readonly ipVersion?: 4 | 6;
}

/**
 * What became of a flow or a packet: `'blocked'` is an error for the application, `'dropped'` is silence, and
 * `'pending-timeout'` means that nobody decided within the computer's own connect time.
 */
export type Outcome =
  'permitted' | 'blocked' | 'dropped' | 'pending-timeout' | { readonly redirectedTo: Endpoint };

/** How a capture is replayed. */
export interface ReplayOptions {
  /** The addresses or networks of the computer that the capture was taken on; inferred from the capture by default. */
  readonly local?: string | readonly string[];
  /** 1: as fast as captured, 2: twice as fast; 0, the default: as fast as possible. */
  readonly speed?: number;
  /** Stops the replay: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told a few times a second how far the replay is. */
  readonly onProgress?: (progress: ReplayProgress) => void;
}

/** How far a replay is; bytes are those of the file. */
export interface ReplayProgress {
  readonly frames: number;
  readonly bytes: number;
  readonly totalBytes: number;
}

/** What a replay consisted of and what became of it. */
export type ReplaySummary = NativeReplaySummary;

/** Many connections of one kind. */
export interface LoadOptions {
  readonly connections: number;
  /** How many wait for their outcome at once, at most; 64 by default. */
  readonly inFlight?: number;
  readonly protocol?: 'tcp' | 'udp';
  readonly ipVersion?: 4 | 6;
  /** After the first one; 0 by default. */
  readonly packetsPerConnection?: number;
  /** Of each packet; 0 by default. */
  readonly payloadLength?: number;
}

/** What became of a load. */
export interface LoadResult {
  readonly seconds: number;
  readonly permitted: number;
  readonly blocked: number;
  readonly dropped: number;
}

/** The simulated computer's time. */
export interface Clock {
  /**
   * Lets time pass: the driver's timers that fall due run before it returns.
   *
   * @throws {@link InvalidArgumentError} when the clock is a real one.
   */
  advance(milliseconds: number): void;
}

const PORTLESS: readonly FlowProtocol[] = ['icmp'];

/** Of the ranges for documentation (RFC 5737, RFC 3849). */
const COMPUTER = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const STRANGER = { 4: '198.51.100.1', 6: '2001:db8:ffff::1' } as const;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const FIRST_EPHEMERAL_PORT = 49_152;
const LAST_PORT = 65_535;

const addressSchema = z.string().transform((text, context) => {
  try {
    return parseAddress(text);
  } catch (error) {
    context.addIssue(error instanceof NetVerdictError ? error.message : String(error));
    return z.NEVER;
  }
});

const bytesSchema = z.instanceof(Uint8Array, { error: 'must be a Uint8Array' });
const protocolSchema = z.enum(['tcp', 'udp', 'icmp']);
const transportSchema = z.enum(['tcp', 'udp']);
const endpointSchema = z.strictObject({
  address: addressSchema.optional(),
  port: portSchema.optional(),
});

const flowShape = {
  processId: processIdSchema,
  processPath: z.string().optional(),
  protocol: protocolSchema,
  payload: bytesSchema.optional(),
  loopback: z.boolean().default(false),
};

const connectSchema = z.strictObject({
  ...flowShape,
  local: endpointSchema.default({}),
  remote: z.strictObject({ address: addressSchema, port: portSchema.optional() }),
});

const acceptSchema = z.strictObject({
  ...flowShape,
  local: endpointSchema,
  remote: endpointSchema.default({}),
});

const listenSchema = z.strictObject({
  processId: processIdSchema,
  processPath: z.string().optional(),
  protocol: transportSchema,
  local: z.strictObject({ address: addressSchema.optional(), port: portSchema.min(1) }),
  ipVersion: z.literal([4, 6]).default(4),
});

const prefixSchema = z.string().transform((text, context) => {
  try {
    const { address, length } = parsePrefix(text);
    return { address, prefix: length };
  } catch (error) {
    context.addIssue(error instanceof NetVerdictError ? error.message : String(error));
    return z.NEVER;
  }
});

const replaySchema = z.strictObject({
  local: z.union([prefixSchema.transform((prefix) => [prefix]), z.array(prefixSchema)]).default([]),
  speed: z.number().min(0).default(0),
  signal: signalSchema.optional(),
  onProgress: z
    .custom<(progress: ReplayProgress) => void>((value) => typeof value === 'function')
    .optional(),
});

const loadSchema = z.strictObject({
  connections: z.int().min(1).max(0xffff_ffff),
  inFlight: z.int().min(1).max(0xffff_ffff).default(64),
  protocol: transportSchema.default('tcp'),
  ipVersion: z.literal([4, 6]).default(4),
  packetsPerConnection: z.int().min(0).max(0xffff_ffff).default(0),
  payloadLength: z.int().min(0).max(0xffff).default(0),
});

const simulatorSchema = z.strictObject({
  ...driverShape,
  ...readShape,
  clock: z.enum(['real', 'virtual']).default('real'),
  verifier: z.boolean().default(true),
});

type FlowInput = z.output<typeof connectSchema> | z.output<typeof acceptSchema>;

/**
 * Makes a simulated computer with the driver's own core in it. Nothing on this computer is touched.
 *
 * @throws {@link InvalidArgumentError} for an option that is not as it must be; {@link UnsupportedError} when the
 *   native part cannot be loaded.
 * @example
 * ```ts
 * await using simulator = await createSimulator({ clock: 'virtual' });
 * const { device, network } = simulator;
 * const flow = network.connect({ processId: 42, protocol: 'tcp', remote: { address: '192.0.2.1', port: 443 } });
 * for await (const event of device.events({ types: ['connection'] })) {
 *   event.accept({ permanent: true });
 *   break;
 * }
 * console.log(await flow.outcome); // 'permitted'
 * ```
 */
export async function createSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const { clock, verifier, ...rest } = check(
    simulatorSchema,
    options,
    'The options of createSimulator()',
  );
  const { timeoutVerdict, ...others } = rest;
  const resolved = resolveOptions({
    ...others,
    ...(timeoutVerdict === undefined ? {} : { timeoutVerdict }),
    backend: 'embedded',
  });
  const virtualClock = clock === 'virtual';
  const { device, native } = await openEmbedded(resolved, { virtualClock, verifier });
  const close = (): Promise<void> => device.close();
  return {
    device,
    network: new Network(native),
    clock: new SimulatedClock(native, virtualClock),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * What happens on the network of a simulated computer. Every flow and packet goes through the driver's callouts in the
 * order in which Windows calls them, and waits where the driver holds it.
 *
 * @example
 * ```ts
 * const flow = network.connect({ processId: 7, protocol: 'udp', remote: { address: '2001:db8::53', port: 53 } });
 * ```
 */
export class Network {
  readonly #native: NativeNetwork;
  #nextPort = FIRST_EPHEMERAL_PORT;

  /** @internal */
  constructor(native: NativeNetwork) {
    this.#native = native;
  }

  /**
   * An application connects, or sends its first datagram or echo request.
   *
   * @throws {@link InvalidArgumentError}
   */
  connect(options: ConnectOptions): Flow {
    const input = check(connectSchema, options, 'The options of connect()');
    const ipVersion = versionOf('connect()', input.remote.address, input.local.address);
    const spec = this.#flowSpec(input, {
      localAddress: input.local.address ?? parseAddress(COMPUTER[ipVersion]),
      localPort: input.local.port ?? this.#ephemeralPort(input.protocol),
      remoteAddress: input.remote.address,
      remotePort: input.remote.port ?? missingPort(input.protocol, 'remote'),
    });
    return new Flow(this.#native, (onOutcome) => this.#native.connect(spec, onOutcome));
  }

  /**
   * A remote end connects to this computer, or sends its first datagram or echo request.
   *
   * @throws {@link InvalidArgumentError}
   */
  accept(options: AcceptOptions): Flow {
    const input = check(acceptSchema, options, 'The options of accept()');
    const ipVersion = versionOf('accept()', input.local.address, input.remote.address);
    const spec = this.#flowSpec(input, {
      localAddress: input.local.address ?? parseAddress(COMPUTER[ipVersion]),
      localPort: input.local.port ?? missingPort(input.protocol, 'local'),
      remoteAddress: input.remote.address ?? parseAddress(STRANGER[ipVersion]),
      remotePort: input.remote.port ?? this.#ephemeralPort(input.protocol),
    });
    return new Flow(this.#native, (onOutcome) => this.#native.accept(spec, onOutcome));
  }

  /**
   * An application listens.
   *
   * @throws {@link InvalidArgumentError}
   */
  listen(options: ListenOptions): Listener {
    const { local, ipVersion, ...input } = check(listenSchema, options, 'The options of listen()');
    const localAddress = local.address ?? parseAddress(ANY[ipVersion]);
    const id = this.#native.listen({
      processId: input.processId,
      processPath: input.processPath ?? defaultPath(input.processId),
      protocol: Protocol[input.protocol],
      localAddress,
      localPort: local.port,
      remoteAddress: new Uint8Array(localAddress.length),
      remotePort: 0,
    });
    return new Listener(() => {
      this.#native.closeListener(id);
    });
  }

  /**
   * A raw IP packet, which the packet layers alone see.
   *
   * @throws {@link InvalidArgumentError}
   */
  packet(bytes: Uint8Array, direction: Direction): Promise<Outcome> {
    const packet = check(bytesSchema, bytes, 'The bytes of packet()');
    const way = check(z.enum(['outbound', 'inbound']), direction, 'The direction of packet()');
    return new Promise((resolve) => {
      this.#native.packet(way === 'outbound' ? 0 : 1, packet, (outcome) => {
        resolve(readOutcome(outcome));
      });
    });
  }

  /** Every live flow is authorized again, as after a policy change. */
  reauthorize(): void {
    this.#native.reauthorize();
  }

  /**
   * Replays a capture file (pcap or pcapng) of one computer; resolves when every packet has its outcome. Somebody has to
   * decide meanwhile.
   *
   * @throws {@link InvalidArgumentError}. Rejects with what is wrong with the file, or with the signal's reason.
   */
  async replay(path: string, options: ReplayOptions = {}): Promise<ReplaySummary> {
    const file = check(z.string().min(1), path, 'The path of replay()');
    const { local, speed, signal, onProgress } = check(
      replaySchema,
      options,
      'The options of replay()',
    );
    signal?.throwIfAborted();
    const replay = this.#native.replay({ path: file, local, speed }, (progress) => {
      onProgress?.(progress);
    });
    return signal === undefined ? replay.done : finishUnlessAborted(replay, signal);
  }

  /**
   * Makes many connections from a native thread, for benchmarks; resolves when each has its outcome.
   *
   * @throws {@link InvalidArgumentError}
   */
  async load(options: LoadOptions): Promise<LoadResult> {
    const { protocol, ...input } = check(loadSchema, options, 'The options of load()');
    return this.#native.load({ ...input, protocol: Protocol[protocol] });
  }

  /**
   * Shows every IP packet that is let through, as it leaves or arrives; null ends that.
   */
  onWire(callback: ((packet: Uint8Array, direction: Direction) => void) | null): void {
    this.#native.onWire(
      callback === null
        ? null
        : (direction, packet) => {
            callback(packet, direction === 0 ? 'outbound' : 'inbound');
          },
    );
  }

  /** What has happened on the network so far, as the network counts it. */
  counters(): Readonly<Record<string, number>> {
    return this.#native.counters();
  }

  /** Bytes of kernel memory that the driver holds now. */
  poolBytes(): number {
    return this.#native.poolBytes();
  }

  #flowSpec(
    input: FlowInput,
    endpoints: Pick<NativeFlowSpec, 'localAddress' | 'localPort' | 'remoteAddress' | 'remotePort'>,
  ): NativeFlowSpec {
    const isIPv6 = endpoints.remoteAddress.length === 16;
    return {
      ...endpoints,
      processId: input.processId,
      processPath: input.processPath ?? defaultPath(input.processId),
      protocol: input.protocol === 'icmp' && isIPv6 ? Protocol.icmpv6 : Protocol[input.protocol],
      loopback: input.loopback,
      ...(input.payload === undefined ? {} : { payload: input.payload }),
    };
  }

  #ephemeralPort(protocol: FlowProtocol): number {
    if (PORTLESS.includes(protocol)) {
      return 0;
    }
    const port = this.#nextPort;
    this.#nextPort = port === LAST_PORT ? FIRST_EPHEMERAL_PORT : port + 1;
    return port;
  }
}

/** A connection, or a socket's traffic with one remote end, on a simulated computer. */
export class Flow {
  /** What became of its first packet; it never rejects. */
  readonly outcome: Promise<Outcome>;
  readonly #native: NativeNetwork;
  readonly #id: number;

  /** @internal */
  constructor(
    native: NativeNetwork,
    start: (onOutcome: (outcome: NativeOutcome) => void) => number,
  ) {
    const { promise, resolve } = withResolver<Outcome>();
    this.#native = native;
    this.outcome = promise;
    this.#id = start((outcome) => {
      resolve(readOutcome(outcome));
    });
  }

  /**
   * The application sends; resolves with what became of it.
   *
   * @throws {@link InvalidArgumentError}
   */
  send(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of send()');
    const { promise, resolve } = withResolver<Outcome>();
    this.#native.send(this.#id, payload, (outcome) => {
      resolve(readOutcome(outcome));
    });
    return promise;
  }

  /**
   * The remote end sends; resolves with what became of it.
   *
   * @throws {@link InvalidArgumentError}
   */
  receive(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of receive()');
    const { promise, resolve } = withResolver<Outcome>();
    this.#native.receive(this.#id, payload, (outcome) => {
      resolve(readOutcome(outcome));
    });
    return promise;
  }

  /** The application closes its socket. Closing again does nothing more. */
  close(): void {
    this.#native.closeFlow(this.#id);
  }
}

/** A listening socket on a simulated computer. */
export class Listener {
  readonly #close: () => void;
  #closed = false;

  /** @internal */
  constructor(close: () => void) {
    this.#close = close;
  }

  /** Stops listening. Closing again does nothing more. */
  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      this.#close();
    }
  }
}

class SimulatedClock implements Clock {
  readonly #native: NativeNetwork;
  readonly #isVirtual: boolean;

  constructor(native: NativeNetwork, isVirtual: boolean) {
    this.#native = native;
    this.#isVirtual = isVirtual;
  }

  advance(milliseconds: number): void {
    if (!this.#isVirtual) {
      throw new InvalidArgumentError(
        "This simulator's clock is real. Create it with { clock: 'virtual' } to advance the time yourself.",
      );
    }
    this.#native.advance(
      check(z.number().min(0).max(Number.MAX_SAFE_INTEGER), milliseconds, 'advance()'),
    );
  }
}

async function finishUnlessAborted(
  replay: NativeReplay,
  signal: AbortSignal,
): Promise<ReplaySummary> {
  const stop = (): void => {
    replay.stop();
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    const summary = await replay.done;
    signal.throwIfAborted();
    return summary;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function withResolver<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((resolvePromise) => {
    resolve = resolvePromise;
  });
  return { promise, resolve };
}

function readOutcome({ kind, address, port }: NativeOutcome): Outcome {
  if (kind !== 'redirected') {
    return kind;
  }
  return {
    redirectedTo: { address: formatAddress(address ?? new Uint8Array(4)), port: port ?? 0 },
  };
}

function versionOf(what: string, ...addresses: readonly (Uint8Array | undefined)[]): 4 | 6 {
  const lengths = new Set(addresses.flatMap((address) => (address ? [address.length] : [])));
  if (lengths.size > 1) {
    throw new InvalidArgumentError(
      `The options of ${what}: local and remote address are not of one IP version. Give both as IPv4, or both as IPv6.`,
    );
  }
  return lengths.has(16) ? 6 : 4;
}

function missingPort(protocol: FlowProtocol, end: 'local' | 'remote'): number {
  if (PORTLESS.includes(protocol)) {
    return 0;
  }
  throw new InvalidArgumentError(
    `The ${end} port is missing. Give ${end}: { port }, as ${protocol} has ports.`,
  );
}

function defaultPath(processId: number): string {
  return String.raw`\device\harddiskvolume1\simulated\process-${processId}.exe`;
}
