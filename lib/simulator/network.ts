/** The network of a simulated computer. */

import type {
  LoadResult,
  NativeFlowSpec,
  NativeNetwork,
  NativePacketCounters,
  NativePacketWay,
  ReplaySummary,
} from '../addon/native.cjs';
import { bytesSchema, check, choice, custom, integer, text } from '../base/checks.js';
import { InvalidArgumentError } from '../base/errors.js';
import { parseAddress } from '../codec/addresses.js';
import type { Direction } from '../codec/events.js';
import { Protocol } from '../codec/protocols.js';
import { nativeError } from '../device/status.js';
import { Flow, Listener, outcomeOf } from './flow.js';
import { HeldPromise, rejecting } from './held_promise.js';
import type { KeptCallback, NetworkHandle } from './network_handle.js';
import {
  acceptSchema,
  arriveSchema,
  connectSchema,
  listenSchema,
  loadSchema,
  replaySchema,
  type AcceptOptions,
  type ArriveOptions,
  type ConnectOptions,
  type FlowInput,
  type FlowProtocol,
  type ListenOptions,
  type LoadOptions,
  type Outcome,
  type ReplayOptions,
} from './network_options.js';

/** Packet counts, of one direction or of both. */
export interface PacketCounters {
  /** Packets indicated to the packet layers for the first time. */
  readonly offered: number;
  /** Packets permitted, at once or after being held. */
  readonly permitted: number;
  /** Packets blocked, with an error for the sender. */
  readonly blocked: number;
  /** Packets discarded silently. */
  readonly dropped: number;
  /** Packets that were ever held for a verdict. */
  readonly held: number;
  /** Packets that are held now. */
  readonly heldNow: number;
  /** Packets injected by the driver. */
  readonly injected: number;
}

/** The counters of a simulated network: of both directions together, and of each. */
export interface NetworkCounters extends PacketCounters {
  /** The outbound packets. */
  readonly outbound: PacketCounters;
  /** The inbound packets. */
  readonly inbound: PacketCounters;
  /** Flows that are open now. */
  readonly flowsNow: number;
  /** Flows opened so far. */
  readonly flowsTotal: number;
  /** Bytes of outbound TCP payload at the stream layer. */
  readonly streamBytesSent: number;
  /** Bytes of inbound TCP payload at the stream layer. */
  readonly streamBytesReceived: number;
  /** Bytes of outbound UDP payload at the datagram layer. */
  readonly datagramBytesSent: number;
  /** Bytes of inbound UDP payload at the datagram layer. */
  readonly datagramBytesReceived: number;
  /** Connections that got no verdict in time. */
  readonly pendingTimeouts: number;
  /** Driver calls that failed because of {@link Network.injectFaults}. */
  readonly injectedFaults: number;
}

type WireCallback = (packet: Uint8Array, direction: Direction) => void;

const wireCallbackSchema = custom<WireCallback | null>(
  (value) => value === null || typeof value === 'function',
  'must be a function or null',
);

const WITH_PORTS: readonly FlowProtocol[] = ['tcp', 'udp', Protocol.tcp, Protocol.udp];

/** Addresses of the documentation ranges (RFC 5737, RFC 3849). */
const COMPUTER = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const STRANGER = { 4: '198.51.100.1', 6: '2001:db8:ffff::1' } as const;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const FIRST_EPHEMERAL_PORT = 49_152;
const LAST_PORT = 65_535;

let readNative: (network: Network) => NativeNetwork;

/**
 * The network of a simulated computer: it makes the flows and packets of applications and remote ends.
 *
 * Every flow and packet goes through the driver's callouts in the order of Windows, and waits where the driver holds it.
 *
 * @example
 * ```ts
 * const flow = network.connect({ processId: 7, protocol: 'udp', remote: { address: '2001:db8::53', port: 53 } });
 * ```
 */
export class Network {
  readonly #handle: NetworkHandle;
  #nextPort = FIRST_EPHEMERAL_PORT;
  #wire: KeptCallback<[direction: 0 | 1, packet: Uint8Array]> | undefined;

  static {
    readNative = (network) => network.#handle.native;
  }

  /** @internal */
  constructor(handle: NetworkHandle) {
    this.#handle = handle;
  }

  /**
   * Makes an application connect, or send its first datagram or echo request.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
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
    return new Flow(this.#handle, (native, onOutcome) => native.connect(spec, onOutcome));
  }

  /**
   * Makes a remote end connect to this computer, or send its first datagram or echo request.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
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
    return new Flow(this.#handle, (native, onOutcome) => native.accept(spec, onOutcome));
  }

  /**
   * Makes an application listen.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  listen(options: ListenOptions): Listener {
    const { local, ipVersion, groups, ...input } = check(
      listenSchema,
      options,
      'The options of listen()',
    );
    const localAddress = local.address ?? parseAddress(ANY[ipVersion]);
    const id = this.#handle.native.listen({
      processId: input.processId,
      processPath: input.processPath ?? defaultPath(input.processId),
      protocol: Protocol[input.protocol],
      localAddress,
      localPort: local.port,
      remoteAddress: new Uint8Array(localAddress.length),
      remotePort: 0,
      groups,
    });
    return new Listener(this.#handle, id);
  }

  /**
   * Sends or receives a raw IP packet. Resolves with its outcome.
   *
   * Only the packet layers see the packet.
   * A datagram that is reassembled from inbound fragments is delivered to its program.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  packet(bytes: Uint8Array, direction: Direction): Promise<Outcome> {
    const packet = check(bytesSchema, bytes, 'The bytes of packet()');
    const way = check(choice(['outbound', 'inbound']), direction, 'The direction of packet()');
    return this.#packet(way === 'outbound' ? 0 : 1, packet, 0);
  }

  /**
   * Receives an IP packet from the network. Resolves with its outcome.
   *
   * It goes through every layer to the socket that it is for. A multicast goes to a socket that joined its group.
   * A TCP segment that no socket accepts is answered by a reset.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  arrive(bytes: Uint8Array, options: ArriveOptions = {}): Promise<Outcome> {
    const packet = check(bytesSchema, bytes, 'The bytes of arrive()');
    const { link } = check(arriveSchema, options, 'The options of arrive()');
    return this.#packet(2, packet, link);
  }

  /**
   * Forwards an IP packet of another computer. Resolves with its outcome.
   *
   * Only the packet layers see the packet: the inbound one, then the outbound one.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  forward(bytes: Uint8Array): Promise<Outcome> {
    return this.#packet(3, check(bytesSchema, bytes, 'The bytes of forward()'), 0);
  }

  /**
   * Makes IPsec accept packets that arrive with AH, or with ESP without encryption, in transport mode.
   *
   * Only the packet layers see AH and ESP. The other layers see the TCP segment or datagram that is protected.
   * Without this call such a packet reaches no program.
   */
  acceptSecured(): void {
    this.#handle.native.acceptSecured();
  }

  /** Authorizes every live flow again, as after a policy change. */
  reauthorize(): void {
    this.#handle.native.reauthorize();
  }

  /**
   * Replays a pcap or pcapng file of one computer. Resolves when every packet has its outcome.
   *
   * The application must give verdicts meanwhile. An aborted signal rejects with its reason.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument or file.
   */
  replay(path: string, options: ReplayOptions = {}): Promise<ReplaySummary> {
    return rejecting(() => HeldPromise.of(this.#handle, this.#startReplay(path, options)));
  }

  /** What the result refers to must not refer to the computer. */
  #startReplay(path: string, options: ReplayOptions): Promise<ReplaySummary> {
    const file = check(text(1), path, 'The path of replay()');
    const { local, speed, writeOut, signal, onProgress } = check(
      replaySchema,
      options,
      'The options of replay()',
    );
    signal?.throwIfAborted();
    const { native } = this.#handle;
    const progress = this.#handle.keep(onProgress ?? ((): void => undefined));
    const replay = native.replay(
      { path: file, local, speed, writeOut: writeOut ?? '' },
      progress.call,
    );
    return finishUnlessAborted(
      replay.done.finally(progress.release),
      stopperOf(this.#handle, replay.id),
      signal,
    );
  }

  /**
   * Makes many connections from a native thread, for benchmarks.
   * Resolves when each of them and of their packets has its outcome.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  load(options: LoadOptions): Promise<LoadResult> {
    return rejecting(() => {
      const { protocol, ...input } = check(loadSchema, options, 'The options of load()');
      const loaded = this.#handle.native.load({ ...input, protocol: Protocol[protocol] });
      return HeldPromise.of(this.#handle, loaded.catch(refuseLoad));
    });
  }

  /**
   * Calls `callback` with every permitted IP packet as it leaves or arrives. Null removes the callback.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  onWire(callback: ((packet: Uint8Array, direction: Direction) => void) | null): void {
    const show = check(wireCallbackSchema, callback, 'The callback of onWire()');
    const { native } = this.#handle;
    this.#wire?.release();
    this.#wire = show === null ? undefined : this.#handle.keep(showPacketTo(show));
    native.onWire(this.#wire?.call ?? null);
  }

  /** Reads the counters of the network. */
  counters(): NetworkCounters {
    const counters = this.#handle.native.counters();
    const outbound = readPackets(counters.outbound);
    const inbound = readPackets(counters.inbound);
    const injectedFaults = this.#handle.native.injectedFaults();
    return { ...counters, ...addPackets(outbound, inbound), outbound, inbound, injectedFaults };
  }

  /** Reads how many bytes of kernel memory the driver uses now. */
  poolBytes(): number {
    return this.#handle.native.poolBytes();
  }

  /**
   * Makes about one in `oneIn` of the driver's allocations, injections and similar calls fail. 0 ends it.
   *
   * It shows how an application copes with a computer that is short of memory.
   *
   * @throws {@link InvalidArgumentError} for an invalid argument.
   */
  injectFaults(oneIn: number): void {
    this.#handle.native.injectFaults(
      check(integer(0, 0xffff_ffff), oneIn, 'The oneIn of injectFaults()'),
    );
  }

  #packet(way: NativePacketWay, packet: Uint8Array, link: number): Promise<Outcome> {
    return outcomeOf(this.#handle, (onOutcome) => {
      this.#handle.native.packet(way, packet, onOutcome, link);
    });
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
      protocol: protocolNumber(input.protocol, isIPv6),
      loopback: input.loopback,
      link: input.link,
      ...(input.icmp === undefined ? {} : { icmp: input.icmp }),
      ...(input.payload === undefined ? {} : { payload: input.payload }),
    };
  }

  #ephemeralPort(protocol: FlowProtocol): number {
    if (!WITH_PORTS.includes(protocol)) {
      return 0;
    }
    const port = this.#nextPort;
    this.#nextPort = port === LAST_PORT ? FIRST_EPHEMERAL_PORT : port + 1;
    return port;
  }
}

/** The native side of a network, for tests of the driver. @internal */
export function nativeOf(network: Network): NativeNetwork {
  return readNative(network);
}

function showPacketTo(show: WireCallback): (direction: 0 | 1, packet: Uint8Array) => void {
  return (direction, packet) => {
    show(packet, direction === 0 ? 'outbound' : 'inbound');
  };
}

/** Stops a replay, without a strong reference to its computer. */
function stopperOf(handle: NetworkHandle, replay: number): () => void {
  const weak = new WeakRef(handle);
  return () => {
    const computer = weak.deref();
    if (computer?.isClosed === false) {
      computer.native.stopReplay(replay);
    }
  };
}

function refuseLoad(cause: unknown): never {
  throw nativeError(cause, 'load()');
}

async function finishUnlessAborted(
  done: Promise<ReplaySummary>,
  stop: () => void,
  signal: AbortSignal | undefined,
): Promise<ReplaySummary> {
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const summary = await done.catch(refuseCapture);
    signal?.throwIfAborted();
    return summary;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** Keeps the native side's message, which names the file, the place in it and the remedy. */
function refuseCapture(cause: unknown): never {
  const error = nativeError(cause, 'replay()');
  if (error !== cause) throw error;
  throw new InvalidArgumentError(cause instanceof Error ? cause.message : String(cause), { cause });
}

function readPackets({ heldTotal, ...packets }: NativePacketCounters): PacketCounters {
  return { ...packets, held: heldTotal };
}

function addPackets(left: PacketCounters, right: PacketCounters): PacketCounters {
  return {
    offered: left.offered + right.offered,
    permitted: left.permitted + right.permitted,
    blocked: left.blocked + right.blocked,
    dropped: left.dropped + right.dropped,
    held: left.held + right.held,
    heldNow: left.heldNow + right.heldNow,
    injected: left.injected + right.injected,
  };
}

function versionOf(what: string, ...addresses: readonly (Uint8Array | undefined)[]): 4 | 6 {
  const lengths = new Set(addresses.flatMap((address) => (address ? [address.length] : [])));
  if (lengths.size > 1) {
    throw new InvalidArgumentError(
      `The options of ${what}: the local and remote address are not of one IP version. Give both as IPv4, or both as IPv6.`,
    );
  }
  return lengths.has(16) ? 6 : 4;
}

function protocolNumber(protocol: FlowProtocol, isIPv6: boolean): number {
  if (typeof protocol === 'number') {
    return protocol;
  }
  return protocol === 'icmp' && isIPv6 ? Protocol.icmpv6 : Protocol[protocol];
}

function missingPort(protocol: FlowProtocol, end: 'local' | 'remote'): number {
  if (!WITH_PORTS.includes(protocol)) {
    return 0;
  }
  throw new InvalidArgumentError(
    `The ${end} port is missing. Give ${end}: { port }, because ${protocol} has ports.`,
  );
}

function defaultPath(processId: number): string {
  return String.raw`\device\harddiskvolume1\simulated\process-${processId}.exe`;
}
