/** What the driver itself decides, and what it adds to the start and the end of a connection (extension 2). */

import { ConnectionRecord } from './connection_events.js';
import { EventBase, defineType, type RecordSource } from './record_view.js';
import type { Verdict } from './verdicts.js';
import {
  ClientStalledLayout,
  ConnectionEndedLayout,
  ConnectionInfoFlag,
  ConnectionInfoLayout,
  ConnectionLayout,
  ConnectionTimeoutLayout,
  ConnectionTimeoutVerdictLayout,
  InfoType,
  readNumber,
  readTime,
} from './wire.js';

/**
 * Why the driver itself resolved a question.
 *
 * - `time`: it waited longer than `pendingTimeoutMs`.
 * - `stall`: the client was stalled, or the system went to sleep.
 * - `share`: its owner held more than its share of the room.
 * - `limit`: a limit was reached, or memory was short.
 * - `unknown`: something that this version does not know.
 */
export type TimeoutCause = 'time' | 'stall' | 'share' | 'limit' | 'unknown';

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

const TIMEOUT_CAUSES: readonly TimeoutCause[] = ['time', 'stall', 'share', 'limit'];
const END_REASONS: readonly EndReason[] = ['closed', 'port-released', 'idle', 'evicted', 'cleared'];

/** The connection of a `timeout` event. */
export class ResolvedConnection extends ConnectionRecord {
  /** @internal */
  fields(): Record<string, unknown> {
    return this.identity();
  }
}

/** A question that the driver resolved itself, because no verdict came or none could be asked for. */
export class TimeoutEvent extends EventBase {
  /** Discriminates the events. */
  declare readonly type: 'timeout';
  /** The id of the connection event; 0 for a connection that was decided without a question. */
  declare readonly id: bigint;
  /** The verdict that the driver applied; undefined if the driver does not say it. */
  declare readonly verdict: Verdict | undefined;
  /** Why the driver resolved it; undefined if the driver does not say it. */
  declare readonly cause: TimeoutCause | undefined;
  /** The connection; undefined if the driver does not say it. */
  declare readonly connection: ResolvedConnection | undefined;

  /** @internal */
  constructor(source: RecordSource, offset: number, length: number) {
    super();
    const { view } = source;
    this.id = view.getBigUint64(offset + ConnectionTimeoutLayout.id, true);
    const decision = offset + ConnectionTimeoutLayout.byteLength;
    const layout = timeoutConnectionLayout(view, offset, length);
    if (layout === undefined) {
      this.verdict = undefined;
      this.cause = undefined;
      this.connection = undefined;
    } else {
      const start = decision + ConnectionTimeoutVerdictLayout.byteLength;
      this.verdict = view.getUint8(decision + ConnectionTimeoutVerdictLayout.verdict) as Verdict;
      this.cause =
        TIMEOUT_CAUSES[view.getUint8(decision + ConnectionTimeoutVerdictLayout.cause)] ?? 'unknown';
      this.connection = new ResolvedConnection(source, start - layout.processId, layout);
    }
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { type, id, verdict, cause, connection } = this;
    return connection === undefined ? { type, id } : { type, id, verdict, cause, connection };
  }
}
defineType(TimeoutEvent, 'timeout');

/** The layout of the connection in a ConnectionTimeout record; undefined if the record has none. */
function timeoutConnectionLayout(
  view: DataView,
  offset: number,
  length: number,
): ConnectionLayout | undefined {
  const decision = offset + ConnectionTimeoutLayout.byteLength;
  const room =
    length - ConnectionTimeoutLayout.byteLength - ConnectionTimeoutVerdictLayout.byteLength;
  if (room < 0) {
    return undefined;
  }
  const type = view.getUint8(decision + ConnectionTimeoutVerdictLayout.type);
  const layout =
    type === InfoType.ConnectionEndV4
      ? ConnectionLayout.v4
      : type === InfoType.ConnectionEndV6
        ? ConnectionLayout.v6
        : undefined;
  return layout !== undefined && room >= layout.payloadLayer - layout.processId
    ? layout
    : undefined;
}

/** What the driver's fail policy decided while the client was stalled: it gave no sign of life. */
export class StalledEvent extends EventBase {
  /** Discriminates the events. */
  declare readonly type: 'stalled';
  /** The number of questions that the fail policy decided. */
  declare readonly count: bigint;
  /** How long the client was stalled, in milliseconds. */
  declare readonly durationMs: number;

  /** @internal */
  constructor({ view }: RecordSource, offset: number) {
    super();
    this.count = view.getBigUint64(offset + ClientStalledLayout.count, true);
    this.durationMs = readNumber(view, offset + ClientStalledLayout.durationMs);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, count: this.count, durationMs: this.durationMs };
  }
}
defineType(StalledEvent, 'stalled');

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
