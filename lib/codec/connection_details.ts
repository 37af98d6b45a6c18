/** What the driver adds to the start and to the end of a connection (extension 2). */

import { EventBase, defineType, type RecordSource } from './record_view.js';
import type { Verdict } from './verdicts.js';
import {
  ConnectionEndedLayout,
  ConnectionInfoFlag,
  ConnectionInfoLayout,
  readTime,
} from './wire.js';

/**
 * Why a connection ended.
 *
 * - `closed`: its end closed it.
 * - `port-released`: its port was released.
 * - `idle`: no packet came for a long time.
 * - `evicted`: the driver needed the room.
 * - `cleared`: the client cleared the driver's cache.
 * - `unknown`: something that this version does not know.
 */
export type EndReason = 'closed' | 'port-released' | 'idle' | 'evicted' | 'cleared' | 'unknown';

const END_REASONS: readonly EndReason[] = ['closed', 'port-released', 'idle', 'evicted', 'cleared'];

/** What the driver adds to the connection record that follows. A device does not pass it on. */
export class ConnectionInfoRecord extends EventBase {
  /** Discriminates the records. */
  declare readonly type: 'connection-info';
  declare private readonly source: RecordSource;
  declare private readonly offset: number;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.source = source;
    this.offset = offset;
  }

  /** The id of the connection record that follows. */
  get id(): bigint {
    return this.source.view.getBigUint64(this.offset + ConnectionInfoLayout.id, true);
  }

  /** When the driver asked, in milliseconds since the epoch. */
  get time(): number | undefined {
    return readTime(this.source.view, this.offset + ConnectionInfoLayout.time);
  }

  /** When the process started, in milliseconds since the epoch; undefined if the driver does not know it. */
  get processStart(): number | undefined {
    return readTime(this.source.view, this.offset + ConnectionInfoLayout.processStart);
  }

  /** Whether both ends are on this computer. */
  get loopback(): boolean {
    return this.has(ConnectionInfoFlag.Loopback);
  }

  /** Whether the destination is a multicast address. */
  get multicast(): boolean {
    return this.has(ConnectionInfoFlag.Multicast);
  }

  /** Whether the destination is a broadcast address. */
  get broadcast(): boolean {
    return this.has(ConnectionInfoFlag.Broadcast);
  }

  /** Whether the client was asked about this connection before. */
  get askedAgain(): boolean {
    return this.has(ConnectionInfoFlag.AskedAgain);
  }

  /** The index of the network interface. */
  get interfaceIndex(): number {
    return this.source.view.getUint32(this.offset + ConnectionInfoLayout.interfaceIndex, true);
  }

  /** The number of the routing compartment. */
  get compartment(): number {
    return this.source.view.getUint32(this.offset + ConnectionInfoLayout.compartment, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { type, id, time, processStart, loopback, multicast, broadcast, askedAgain } = this;
    const { interfaceIndex, compartment } = this;
    return {
      type,
      id,
      time,
      processStart,
      loopback,
      multicast,
      broadcast,
      askedAgain,
      interfaceIndex,
      compartment,
    };
  }

  private has(flag: number): boolean {
    const flags = this.source.view.getUint32(this.offset + ConnectionInfoLayout.flags, true);
    return (flags & flag) !== 0;
  }
}
defineType(ConnectionInfoRecord, 'connection-info');

/** What the driver adds to the end record that follows. A device does not pass it on. */
export class ConnectionEndedRecord extends EventBase {
  /** Discriminates the records. */
  declare readonly type: 'connection-ended';
  declare private readonly source: RecordSource;
  declare private readonly offset: number;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.source = source;
    this.offset = offset;
  }

  /** The id of the last connection event of this connection; 0 if there was none. */
  get id(): bigint {
    return this.source.view.getBigUint64(this.offset + ConnectionEndedLayout.id, true);
  }

  /** When the connection started, in milliseconds since the epoch. */
  get startTime(): number | undefined {
    return readTime(this.source.view, this.offset + ConnectionEndedLayout.startTime);
  }

  /** When the connection ended, in milliseconds since the epoch. */
  get endTime(): number | undefined {
    return readTime(this.source.view, this.offset + ConnectionEndedLayout.endTime);
  }

  /** The number of bytes that this computer sent, in all. */
  get transmitted(): bigint {
    return this.source.view.getBigUint64(this.offset + ConnectionEndedLayout.transmitted, true);
  }

  /** The number of bytes that this computer received, in all. */
  get received(): bigint {
    return this.source.view.getBigUint64(this.offset + ConnectionEndedLayout.received, true);
  }

  /** The connection's last verdict. */
  get verdict(): Verdict {
    return this.source.view.getUint8(this.offset + ConnectionEndedLayout.verdict) as Verdict;
  }

  /** Why it ended. */
  get reason(): EndReason {
    const reason = this.source.view.getUint8(this.offset + ConnectionEndedLayout.reason);
    return END_REASONS[reason] ?? 'unknown';
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { type, id, startTime, endTime, transmitted, received, verdict, reason } = this;
    return { type, id, startTime, endTime, transmitted, received, verdict, reason };
  }
}
defineType(ConnectionEndedRecord, 'connection-ended');
