/** The invariants of the driver's event stream: the same as those of test/support/observer.h in C++. */

import type { ConnectionEndEvent, ConnectionEvent, NetVerdictEvent } from '../../lib/index.js';

export class StreamInvariants {
  /** The violations so far. */
  readonly problems: string[] = [];
  readonly #ids: Set<bigint>;
  readonly #alive = new Map<string, Set<number>>();

  /** Without `former`, the client is a driver's first; otherwise the next one after it, because ids never repeat. */
  constructor(former?: StreamInvariants) {
    this.#ids = former === undefined ? new Set() : former.#ids;
  }

  take(event: NetVerdictEvent): void {
    if (event.type === 'connection') this.#takeConnection(event);
    if (event.type === 'connection-end') this.#takeEnd(event);
    if (event.type === 'protocol-error') this.problems.push(String(event.error));
  }

  #takeConnection(event: ConnectionEvent): void {
    if (event.id === 0n || this.#ids.has(event.id)) {
      this.problems.push(`id ${event.id} came twice, or is 0`);
    }
    this.#ids.add(event.id);
    const processes = this.#alive.get(keyOf(event)) ?? new Set();
    this.#alive.set(keyOf(event), processes.add(event.processId));
  }

  // Two links may have the same conversation, of two processes. The packet layer asks with process 0.
  // Conversations of a protocol without ports have the same fields, so the end of one leaves the others alive.
  #takeEnd(event: ConnectionEndEvent): void {
    const processes = this.#alive.get(keyOf(event)) ?? new Set();
    const known = processes.has(event.processId) || processes.has(0);
    if (hasPorts(event)) {
      processes.delete(event.processId);
      processes.delete(0);
    }
    if (!known) {
      this.problems.push(`the end of ${keyOf(event)} came without its connection, or twice`);
    }
  }
}

function hasPorts({ localPort, remotePort }: ConnectionEndEvent): boolean {
  return localPort !== 0 || remotePort !== 0;
}

function keyOf(event: ConnectionEvent | ConnectionEndEvent): string {
  const { protocol, localAddress, localPort, remoteAddress, remotePort } = event;
  return `${protocol} ${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}
