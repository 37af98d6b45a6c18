/** The options of a simulated network's methods: their types, defaults and checks. */

import {
  amount,
  bytesSchema,
  choice,
  custom,
  flag,
  integer,
  list,
  object,
  optional,
  parsed,
  portSchema,
  processIdSchema,
  signalSchema,
  text,
  withDefault,
  type Checked,
  type Schema,
} from '../base/checks.js';
import { parseAddress, parsePrefix } from '../codec/addresses.js';

/** An address with a port. */
export interface Endpoint {
  /** An IPv4 or IPv6 address as text. */
  readonly address: string;
  /** From 0 to 65535. */
  readonly port: number;
}

/** An address, with a port for protocols that have ports. */
export interface RemoteEndpoint {
  /** An IPv4 or IPv6 address as text. */
  readonly address: string;
  /** From 0 to 65535; omit it for ICMP. */
  readonly port?: number;
}

/** The protocol of a flow: a name, or the number of another IP protocol. With IPv6 addresses, `'icmp'` means ICMPv6. */
export type FlowProtocol = 'tcp' | 'udp' | 'icmp' | number;

/**
 * A link of the computer: two links of one network compartment, and a third link in another compartment.
 *
 * The links may have the same addresses.
 */
export type Link = 0 | 1 | 2;

/** The type and code of an ICMP message. */
export interface IcmpMessage {
  /** From 0 to 255. */
  readonly type: number;
  /** From 0 to 255. */
  readonly code: number;
}

/** The options that outbound and inbound connections share. */
export interface FlowOptions {
  /** The id of the process that owns the connection. */
  readonly processId: number;
  /** The image path of the process; by default a path with the process id in it. */
  readonly processPath?: string;
  /** The protocol above IP. */
  readonly protocol: FlowProtocol;
  /** The bytes of the first datagram or echo request; for TCP, the bytes sent once the connection is up. */
  readonly payload?: Uint8Array;
  /** Whether the remote end is on this computer too; false by default. */
  readonly loopback?: boolean;
  /** The first ICMP message; by default an echo request, whose identifier is the local port. */
  readonly icmp?: IcmpMessage;
  /** The link of the packets; 0 by default. */
  readonly link?: Link;
}

/** Options for an outbound connection. */
export interface ConnectOptions extends FlowOptions {
  /** The local endpoint; by default an address of the computer of the same IP version, and a free port. */
  readonly local?: Partial<Endpoint>;
  /** The destination. */
  readonly remote: RemoteEndpoint;
}

/** Options for an inbound connection. */
export interface AcceptOptions extends FlowOptions {
  /** The local endpoint; by default at an address of the computer. Omit the port for ICMP. */
  readonly local: Partial<Endpoint>;
  /** The source; by default a documentation address and a free port. */
  readonly remote?: Partial<Endpoint>;
}

/** The endpoint on which a socket listens. */
export interface ListenEndpoint {
  /** An IPv4 or IPv6 address as text; every address of the computer by default. */
  readonly address?: string;
  /** From 1 to 65535. */
  readonly port: number;
}

/** Options for a listening socket. */
export interface ListenOptions {
  /** The id of the process that owns the socket. */
  readonly processId: number;
  /** The image path of the process; by default a path with the process id in it. */
  readonly processPath?: string;
  /** The protocol above IP. */
  readonly protocol: 'tcp' | 'udp';
  /** The endpoint on which it listens. */
  readonly local: ListenEndpoint;
  /** The IP version if `local` has no address; 4 by default. */
  readonly ipVersion?: 4 | 6;
  /** The multicast groups that the socket joins, as IPv4 or IPv6 addresses. */
  readonly groups?: readonly string[];
}

/** Options for a packet from the network. */
export interface ArriveOptions {
  /** The link on which it comes; 0 by default. */
  readonly link?: Link;
}

/** A flow that was permitted with another destination. */
export interface Redirected {
  /** The new destination. */
  readonly redirectedTo: Endpoint;
}

/**
 * The outcome of a flow or a packet.
 *
 * - `'blocked'`: refused, with an error for the application.
 * - `'dropped'`: discarded silently, or still in transit when the simulator was closed.
 * - `'pending-timeout'`: no verdict came within the computer's connect timeout.
 */
export type Outcome = 'permitted' | 'blocked' | 'dropped' | 'pending-timeout' | Redirected;

/** The progress of a replay. */
export interface ReplayProgress {
  /** Frames replayed so far. */
  readonly frames: number;
  /** Bytes of the file read so far. */
  readonly bytes: number;
  /** The size of the file in bytes. */
  readonly totalBytes: number;
}

/** Options for replaying a capture. */
export interface ReplayOptions {
  /** The addresses or networks of the captured computer; inferred from the capture by default. */
  readonly local?: string | readonly string[];
  /** The speed relative to the capture: 1 is as captured, 2 twice as fast; 0, the default, is as fast as possible. */
  readonly speed?: number;
  /**
   * The path of a pcapng file for every permitted packet, timed by the computer's clock.
   *
   * The interface `network` has packets to other computers.
   * The interface `loopback` has packets to this computer.
   * The interface `delivered` has packets to programs of this computer.
   */
  readonly writeOut?: string;
  /** Stops the replay, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called with the progress a few times a second. */
  readonly onProgress?: (progress: ReplayProgress) => void;
}

/** Options for a load of many connections. */
export interface LoadOptions {
  /** The number of connections, from 1. */
  readonly connections: number;
  /** The number of connections that wait for their outcome at once, 1 to 1048576; 64 by default. */
  readonly inFlight?: number;
  /** The protocol above IP; `'tcp'` by default. */
  readonly protocol?: 'tcp' | 'udp';
  /** The IP version; 4 by default. */
  readonly ipVersion?: 4 | 6;
  /** The number of packets of each connection after its first; 0 by default. */
  readonly packetsPerConnection?: number;
  /** The payload of each of these packets in bytes, up to 65535; 0 by default. */
  readonly payloadLength?: number;
}

const MAX_U32 = 0xffff_ffff;

const addressSchema = parsed(parseAddress);

const prefixSchema = parsed((text) => {
  const { address, length } = parsePrefix(text);
  return { address, prefix: length };
});

const byteSchema = integer(0, 0xff);
const linkSchema = withDefault(choice([0, 1, 2]), 0);

const transportSchema = choice(['tcp', 'udp']);
const ipVersionSchema = choice([4, 6]);
const countSchema = integer(0, MAX_U32);

const protocolSchema: Schema<FlowProtocol> = custom(
  (value) =>
    (typeof value === 'string' && ['tcp', 'udp', 'icmp'].includes(value)) ||
    (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xff),
  "must be 'tcp', 'udp', 'icmp' or a number from 0 to 255",
);

const endpointSchema = object({ address: optional(addressSchema), port: optional(portSchema) });

const flowShape = {
  processId: processIdSchema,
  processPath: optional(text()),
  protocol: protocolSchema,
  payload: optional(bytesSchema),
  loopback: withDefault(flag, false),
  icmp: optional(object({ type: byteSchema, code: byteSchema })),
  link: linkSchema,
};

/** @internal */
export const connectSchema = object({
  ...flowShape,
  local: withDefault(endpointSchema, {}),
  remote: object({ address: addressSchema, port: optional(portSchema) }),
});

/** @internal */
export const acceptSchema = object({
  ...flowShape,
  local: endpointSchema,
  remote: withDefault(endpointSchema, {}),
});

/** @internal */
export const listenSchema = object({
  processId: processIdSchema,
  processPath: optional(text()),
  protocol: transportSchema,
  local: object({ address: optional(addressSchema), port: integer(1, 0xffff) }),
  ipVersion: withDefault(ipVersionSchema, 4),
  groups: withDefault(list(addressSchema), []),
});

/** @internal */
export const arriveSchema = object({ link: linkSchema });

/** @internal */
export const replaySchema = object({
  local: withDefault(
    (value, place) => list(prefixSchema)(typeof value === 'string' ? [value] : value, place),
    [],
  ),
  speed: withDefault(amount, 0),
  writeOut: optional(text(1)),
  signal: optional(signalSchema),
  onProgress: optional(
    custom<(progress: ReplayProgress) => void>(
      (value) => typeof value === 'function',
      'must be a function',
    ),
  ),
});

/** @internal */
export const loadSchema = object({
  connections: integer(1, MAX_U32),
  inFlight: withDefault(integer(1, 1_048_576), 64),
  protocol: withDefault(transportSchema, 'tcp'),
  ipVersion: withDefault(ipVersionSchema, 4),
  packetsPerConnection: withDefault(countSchema, 0),
  payloadLength: withDefault(integer(0, 0xffff), 0),
});

/** @internal The checked options of a flow. */
export type FlowInput = Checked<typeof connectSchema> | Checked<typeof acceptSchema>;
