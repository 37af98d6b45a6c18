/** What may be asked of a simulated network, checked before it reaches native code. */

import { z } from 'zod';
import { bytesSchema, parsed, portSchema, processIdSchema, signalSchema } from '../base/checks.js';
import { parseAddress, parsePrefix } from '../codec/addresses.js';

/** An address with a port. */
export interface Endpoint {
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  /** From 0 to 65535. */
  readonly port: number;
}

/** An address with a port, for protocols that have ports. */
export interface RemoteEndpoint {
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  /** To be left out for ICMP. */
  readonly port?: number;
}

/** The protocols that flows can have. ICMP means ICMPv6 where the addresses are IPv6. */
export type FlowProtocol = 'tcp' | 'udp' | 'icmp';

/** What outgoing and incoming connections have in common. */
export interface FlowOptions {
  /** The process that owns the connection. */
  readonly processId: number;
  /** The process's image path; one made of the process id by default. */
  readonly processPath?: string;
  /** The protocol above IP. */
  readonly protocol: FlowProtocol;
  /** The first datagram, the echo data, or what is sent once the connection is up. */
  readonly payload?: Uint8Array;
  /** The remote end is on this computer too. */
  readonly loopback?: boolean;
}

/** An outgoing connection. */
export interface ConnectOptions extends FlowOptions {
  /** By default an address of the computer of the same IP version, and a port that is free. */
  readonly local?: Partial<Endpoint>;
  /** Where it goes. */
  readonly remote: RemoteEndpoint;
}

/** An incoming connection. */
export interface AcceptOptions extends FlowOptions {
  /** Where it arrives; by default at an address of the computer. ICMP has no port. */
  readonly local: Partial<Endpoint>;
  /** Where it comes from; made up by default. */
  readonly remote?: Partial<Endpoint>;
}

/** Where a socket listens. */
export interface ListenEndpoint {
  /** By default every address of the computer. */
  readonly address?: string;
  /** From 1 to 65535. */
  readonly port: number;
}

/** A socket that listens. */
export interface ListenOptions {
  /** The process that owns the socket. */
  readonly processId: number;
  /** The process's image path; one made of the process id by default. */
  readonly processPath?: string;
  /** The protocol above IP. */
  readonly protocol: 'tcp' | 'udp';
  /** Where it listens. */
  readonly local: ListenEndpoint;
  /** The IP version when there is no address; 4 by default. */
  readonly ipVersion?: 4 | 6;
}

/** Let through, with another destination. */
export interface Redirected {
  /** The destination that it was given. */
  readonly redirectedTo: Endpoint;
}

/**
 * What became of a flow or a packet: `'blocked'` is an error for the application, `'dropped'` is silence, also of
 * what was on its way when the simulator was closed, and `'pending-timeout'` means that nobody decided within the
 * computer's own connect time.
 */
export type Outcome = 'permitted' | 'blocked' | 'dropped' | 'pending-timeout' | Redirected;

/** How far a replay is. */
export interface ReplayProgress {
  /** Frames that were replayed. */
  readonly frames: number;
  /** Bytes of the file that were read. */
  readonly bytes: number;
  /** Bytes of the whole file. */
  readonly totalBytes: number;
}

/** How a capture is replayed. */
export interface ReplayOptions {
  /** The addresses or networks of the computer that the capture was taken on; inferred from the capture by default. */
  readonly local?: string | readonly string[];
  /** 1: as fast as captured, 2: twice as fast; 0, the default: as fast as possible. */
  readonly speed?: number;
  /**
   * A pcapng file for every packet that is let through, by the computer's clock: on the interface `network` what is sent
   * to other computers, on `loopback` what is sent to this one itself, on `delivered` what its programs are given.
   */
  readonly writeOut?: string;
  /** Stops the replay: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told a few times a second how far the replay is. */
  readonly onProgress?: (progress: ReplayProgress) => void;
}

/** Many connections of one kind. */
export interface LoadOptions {
  /** How many. */
  readonly connections: number;
  /** How many wait for their outcome at once, from 1 to 1048576; 64 by default. */
  readonly inFlight?: number;
  /** The protocol above IP; `'tcp'` by default. */
  readonly protocol?: 'tcp' | 'udp';
  /** The IP version; 4 by default. */
  readonly ipVersion?: 4 | 6;
  /** How many packets each has after its first one; 0 by default. */
  readonly packetsPerConnection?: number;
  /** Bytes of payload of each of them; 0 by default. */
  readonly payloadLength?: number;
}

const addressSchema = parsed(parseAddress);

const prefixSchema = parsed((text) => {
  const { address, length } = parsePrefix(text);
  return { address, prefix: length };
});

const transportSchema = z.enum(['tcp', 'udp']);
const ipVersionSchema = z.literal([4, 6]);
const countSchema = z.int().min(0).max(0xffff_ffff);

const endpointSchema = z.strictObject({
  address: addressSchema.optional(),
  port: portSchema.optional(),
});

const flowShape = {
  processId: processIdSchema,
  processPath: z.string().optional(),
  protocol: z.enum(['tcp', 'udp', 'icmp']),
  payload: bytesSchema.optional(),
  loopback: z.boolean().default(false),
};

/** @internal */
export const connectSchema = z.strictObject({
  ...flowShape,
  local: endpointSchema.default({}),
  remote: z.strictObject({ address: addressSchema, port: portSchema.optional() }),
});

/** @internal */
export const acceptSchema = z.strictObject({
  ...flowShape,
  local: endpointSchema,
  remote: endpointSchema.default({}),
});

/** @internal */
export const listenSchema = z.strictObject({
  processId: processIdSchema,
  processPath: z.string().optional(),
  protocol: transportSchema,
  local: z.strictObject({ address: addressSchema.optional(), port: portSchema.min(1) }),
  ipVersion: ipVersionSchema.default(4),
});

/** @internal */
export const replaySchema = z.strictObject({
  local: z.union([prefixSchema.transform((prefix) => [prefix]), z.array(prefixSchema)]).default([]),
  speed: z.number().min(0).default(0),
  writeOut: z.string().min(1).optional(),
  signal: signalSchema.optional(),
  onProgress: z
    .custom<(progress: ReplayProgress) => void>(
      (value) => typeof value === 'function',
      'must be a function',
    )
    .optional(),
});

/** @internal */
export const loadSchema = z.strictObject({
  connections: countSchema.min(1),
  inFlight: countSchema.min(1).max(1_048_576).default(64),
  protocol: transportSchema.default('tcp'),
  ipVersion: ipVersionSchema.default(4),
  packetsPerConnection: countSchema.default(0),
  payloadLength: countSchema.max(0xffff).default(0),
});

/** @internal A flow's options, checked. */
export type FlowInput = z.output<typeof connectSchema> | z.output<typeof acceptSchema>;
