/** The totals of a replay: connections, verdicts, bandwidth and losses, counted from the events. */

import type { BandwidthEntry, ConnectionEndEvent, ConnectionEvent } from '../codec/events.js';
import { Protocol } from '../codec/protocols.js';

/** The payload bytes of one connection. */
export interface ConnectionBandwidth {
  readonly protocol: number;
  readonly ipVersion: 4 | 6;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  transmitted: bigint;
  received: bigint;
}

interface Total {
  transmitted: bigint;
  received: bigint;
}

/** Payload bytes sent (`tx`) and received (`rx`). */
export interface Traffic {
  readonly tx: number;
  readonly rx: number;
}

/** Traffic by IP version. */
export interface TrafficByVersion {
  readonly v4: Traffic;
  readonly v6: Traffic;
}

/** Beyond this many connections the quieter half is forgotten. It stays in the totals. */
const MAX_CONNECTIONS = 100_000;
/** Beyond this many live connections the oldest counts again if it is asked about again. */
const MAX_LIVE = 1_000_000;

type ConnectionKind = 'tcp' | 'udp' | 'other';

type Identity = Pick<
  ConnectionEvent,
  'protocol' | 'localAddress' | 'localPort' | 'remoteAddress' | 'remotePort'
>;

function keyOf(identity: Identity): string {
  return [
    identity.protocol,
    identity.localAddress,
    identity.localPort,
    identity.remoteAddress,
    identity.remotePort,
  ].join(' ');
}

function kindOf(protocol: number): ConnectionKind {
  if (protocol === Protocol.tcp) return 'tcp';
  return protocol === Protocol.udp ? 'udp' : 'other';
}

/**
 * Counts connections, verdicts, bytes and losses.
 *
 * A connection counts once, even if several of its packets wait for a verdict.
 * The same endpoints count again after the end of the connection.
 */
export class Tally {
  readonly connections = { tcp: 0, udp: 0, other: 0 };
  readonly verdicts: Record<string, number> = {};
  lost = 0n;
  readonly #live = new Set<string>();
  readonly #bandwidth = new Map<string, ConnectionBandwidth>();
  readonly #totals = new Map<string, Total>();

  addConnection(event: ConnectionEvent, verdict: string): void {
    this.verdicts[verdict] = (this.verdicts[verdict] ?? 0) + 1;
    const key = keyOf(event);
    if (this.#live.has(key)) return;
    this.#live.add(key);
    if (this.#live.size > MAX_LIVE) {
      for (const oldest of this.#live) {
        this.#live.delete(oldest);
        break;
      }
    }
    this.connections[kindOf(event.protocol)] += 1;
  }

  endConnection(event: ConnectionEndEvent): void {
    this.#live.delete(keyOf(event));
  }

  addBandwidth(entries: readonly BandwidthEntry[]): void {
    for (const entry of entries) {
      for (const sum of [
        this.#bandwidthOf(entry),
        this.#totalOf(entry.protocol, entry.ipVersion),
      ]) {
        sum.transmitted += entry.transmittedBytes;
        sum.received += entry.receivedBytes;
      }
    }
  }

  /** The connections with traffic, the busiest first. */
  bandwidthByConnection(): ConnectionBandwidth[] {
    const size = (connection: ConnectionBandwidth): bigint =>
      connection.transmitted + connection.received;
    return [...this.#bandwidth.values()].sort((a, b) => Number(size(b) - size(a)));
  }

  bandwidthByProtocol(): { readonly tcp: TrafficByVersion; readonly udp: TrafficByVersion } {
    const sum = (protocol: number, ipVersion: 4 | 6): Traffic => {
      const { transmitted, received } = this.#totalOf(protocol, ipVersion);
      return { tx: Number(transmitted), rx: Number(received) };
    };
    const byVersion = (protocol: number): TrafficByVersion => ({
      v4: sum(protocol, 4),
      v6: sum(protocol, 6),
    });
    return { tcp: byVersion(Protocol.tcp), udp: byVersion(Protocol.udp) };
  }

  #bandwidthOf(entry: BandwidthEntry): ConnectionBandwidth {
    const key = keyOf(entry);
    let connection = this.#bandwidth.get(key);
    if (connection === undefined) {
      const { protocol, ipVersion, localAddress, localPort, remoteAddress, remotePort } = entry;
      connection = {
        ...{ protocol, ipVersion, localAddress, localPort, remoteAddress, remotePort },
        transmitted: 0n,
        received: 0n,
      };
      if (this.#bandwidth.size >= MAX_CONNECTIONS) this.#forgetQuiet();
      this.#bandwidth.set(key, connection);
    }
    return connection;
  }

  #totalOf(protocol: number, ipVersion: 4 | 6): Total {
    const key = `${protocol} ${ipVersion}`;
    const total = this.#totals.get(key) ?? { transmitted: 0n, received: 0n };
    this.#totals.set(key, total);
    return total;
  }

  #forgetQuiet(): void {
    const quiet = this.bandwidthByConnection().slice(MAX_CONNECTIONS / 2);
    for (const connection of quiet) this.#bandwidth.delete(keyOf(connection));
  }
}
