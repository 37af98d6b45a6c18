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

/** What comes right before a record of a connection. It begins with an id. */
abstract class ConnectionDetails extends EventBase {
  declare private readonly source: RecordSource;
  declare private readonly offset: number;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.source = source;
    this.offset = offset;
  }

  /** The id of the connection's last connection event; 0 if there was none. */
  get id(): bigint {
    return this.uint64(0);
  }

  /** @internal */
  protected uint8(field: number): number {
    return this.source.view.getUint8(this.offset + field);
  }

  /** @internal */
  protected uint32(field: number): number {
    return this.source.view.getUint32(this.offset + field, true);
  }

  /** @internal */
  protected uint64(field: number): bigint {
    return this.source.view.getBigUint64(this.offset + field, true);
  }

  /** @internal */
  protected date(field: number): number | undefined {
    return readTime(this.source.view, this.offset + field);
  }
}

/** What the driver adds to the connection record that follows. A device does not pass it on. */
export class ConnectionInfoRecord extends ConnectionDetails {
  /** Discriminates the records. */
  declare readonly type: 'connection-info';

  /** When the driver asked, in milliseconds since the epoch. */
  get time(): number | undefined {
    return this.date(ConnectionInfoLayout.time);
  }

  /** When the process started, in milliseconds since the epoch; undefined if the driver does not know it. */
  get processStart(): number | undefined {
    return this.date(ConnectionInfoLayout.processStart);
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
    return this.uint32(ConnectionInfoLayout.interfaceIndex);
  }

  /** The number of the routing compartment. */
  get compartment(): number {
    return this.uint32(ConnectionInfoLayout.compartment);
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
    const flags = this.uint32(ConnectionInfoLayout.flags);
    return (flags & flag) !== 0;
  }
}
defineType(ConnectionInfoRecord, 'connection-info');

/** What the driver adds to the end record that follows. A device does not pass it on. */
export class ConnectionEndedRecord extends ConnectionDetails {
  /** Discriminates the records. */
  declare readonly type: 'connection-ended';

  /** When the connection started, in milliseconds since the epoch. */
  get startTime(): number | undefined {
    return this.date(ConnectionEndedLayout.startTime);
  }

  /** When the connection ended, in milliseconds since the epoch. */
  get endTime(): number | undefined {
    return this.date(ConnectionEndedLayout.endTime);
  }

  /** The number of bytes that this computer sent, in all. */
  get transmitted(): bigint {
    return this.uint64(ConnectionEndedLayout.transmitted);
  }

  /** The number of bytes that this computer received, in all. */
  get received(): bigint {
    return this.uint64(ConnectionEndedLayout.received);
  }

  /** The connection's last verdict. */
  get verdict(): Verdict {
    return this.uint8(ConnectionEndedLayout.verdict) as Verdict;
  }

  /** Why it ended. */
  get reason(): EndReason {
    const reason = this.uint8(ConnectionEndedLayout.reason);
    return END_REASONS[reason] ?? 'unknown';
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { type, id, startTime, endTime, transmitted, received, verdict, reason } = this;
    return { type, id, startTime, endTime, transmitted, received, verdict, reason };
  }
}
defineType(ConnectionEndedRecord, 'connection-ended');
