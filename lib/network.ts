/** The network of a simulated computer: what applications and remote ends do. */

import { z } from 'zod';
import { formatAddress, parseAddress } from './addresses.js';
import { bytesSchema, check } from './checks.js';
import { InvalidArgumentError } from './errors.js';
import type { Direction } from './events.js';
import type {
  LoadResult,
  NativeCounters,
  NativeFlowSpec,
  NativeNetwork,
  NativeOutcome,
  NativeReplay,
  ReplaySummary,
} from './native.cjs';
import {
  acceptSchema,
  connectSchema,
  listenSchema,
  loadSchema,
  replaySchema,
  type AcceptOptions,
  type ConnectOptions,
  type FlowInput,
  type FlowProtocol,
  type ListenOptions,
  type LoadOptions,
  type Outcome,
  type ReplayOptions,
} from './network_options.js';
import { Protocol } from './protocols.js';

/** What has happened on a simulated network. */
export interface NetworkCounters extends NativeCounters {
  /** Packets that were let through, at once or after having been held. */
  readonly permitted: number;
  /** Packets that were blocked, so that the sender saw an error. */
  readonly blocked: number;
  /** Packets that were discarded without a word. */
  readonly dropped: number;
  /** Packets that have ever waited for a verdict. */
  readonly held: number;
}

const PORTLESS: readonly FlowProtocol[] = ['icmp'];

/** Of the ranges for documentation (RFC 5737, RFC 3849). */
const COMPUTER = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const STRANGER = { 4: '198.51.100.1', 6: '2001:db8:ffff::1' } as const;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const FIRST_EPHEMERAL_PORT = 49_152;
const LAST_PORT = 65_535;

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
  counters(): NetworkCounters {
    const counters = this.#native.counters();
    return {
      ...counters,
      permitted: counters.outboundPermitted + counters.inboundPermitted,
      blocked: counters.outboundBlocked + counters.inboundBlocked,
      dropped: counters.outboundDropped + counters.inboundDropped,
      held: counters.outboundHeldTotal + counters.inboundHeldTotal,
    };
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
