/** What the driver decided itself. */

import { ConnectionRecord } from './connection_events.js';
import { EventBase, defineType, type RecordSource } from './record_view.js';
import type { Verdict } from './verdicts.js';
import {
  ClientStalledLayout,
  ConnectionLayout,
  ConnectionTimeoutLayout,
  ConnectionTimeoutVerdictLayout,
  InfoType,
  readNumber,
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

const TIMEOUT_CAUSES: readonly TimeoutCause[] = ['time', 'stall', 'share', 'limit'];
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
