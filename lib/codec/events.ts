/** What the driver reports, as the application sees it. */

import type { ProtocolError } from '../base/errors.js';
import type { BandwidthEvent } from './bandwidth_events.js';
import type { ConnectionEndEvent, ConnectionEvent } from './connection_events.js';
import { EventBase, defineType, readNumber, type RecordSource } from './record_view.js';
import { InfoType } from './wire.js';

export { BandwidthEntry, BandwidthEvent } from './bandwidth_events.js';
export {
  ConnectionEndEvent,
  ConnectionEvent,
  type Direction,
  type RedirectOptions,
  type VerdictOptions,
} from './connection_events.js';

/** How serious a log line is, from the least to the most. */
export type LogSeverity = 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical';

/** Why records were lost: the event queue or the table of held packets was full, or memory was. */
export type LossReason = 'event-queue-full' | 'held-packet-limit' | 'out-of-memory' | 'unknown';

/** @internal In the order of their numbers on the wire. */
export const SEVERITIES: readonly LogSeverity[] = [
  'trace',
  'debug',
  'info',
  'warning',
  'error',
  'critical',
];

const LOSS_REASONS: readonly LossReason[] = [
  'unknown',
  'event-queue-full',
  'held-packet-limit',
  'out-of-memory',
];

/** @internal The severity's number on the wire, from 1. */
export function severityNumber(severity: LogSeverity): number {
  return SEVERITIES.indexOf(severity) + 1;
}

/** A line of the driver's log that no `getLogs()` of this device waits for. */
export class LogEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'log';
  declare private readonly source: RecordSource;
  declare private readonly offset: number;
  declare private readonly length: number;

  /** @internal */
  constructor(source: RecordSource, offset: number, length: number) {
    super();
    this.source = source;
    this.offset = offset;
    this.length = length;
  }

  /** How serious the driver finds it. */
  get severity(): LogSeverity {
    const number = this.source.view.getUint8(this.offset);
    return SEVERITIES[number - 1] ?? (number === 0 ? 'trace' : 'critical');
  }

  /** The line's text. */
  get message(): string {
    const { buffer, byteOffset } = this.source.bytes;
    return Buffer.from(buffer, byteOffset + this.offset + 1, this.length - 1).toString('utf8');
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, severity: this.severity, message: this.message };
  }
}
defineType(LogEvent, 'log');

/** Records that the driver could not report; their packets were decided by its fail policy. */
export class LostEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'lost';
  /** How many, since the last such event. */
  declare readonly count: bigint;
  /** Why. */
  declare readonly reason: LossReason;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.count = source.view.getBigUint64(offset, true);
    this.reason = LOSS_REASONS[source.view.getUint8(offset + 8)] ?? 'unknown';
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, count: this.count, reason: this.reason };
  }
}
defineType(LostEvent, 'lost');

/** A connection had no verdict for longer than the pending timeout, and got the timeout verdict. */
export class TimeoutEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'timeout';
  /** The id that the connection event had. */
  declare readonly id: bigint;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.id = source.view.getBigUint64(offset, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, id: this.id };
  }
}
defineType(TimeoutEvent, 'timeout');

/** A record of a kind that this version does not know, from a newer driver: never an error. */
export class UnknownEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'unknown';
  /** The record's type on the wire. */
  declare readonly recordType: number;
  /** A copy of the record's body. */
  declare readonly body: Uint8Array;

  /** @internal */
  constructor(recordType: number, body: Uint8Array) {
    super();
    this.recordType = recordType;
    this.body = body;
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, recordType: this.recordType, body: this.body };
  }
}
defineType(UnknownEvent, 'unknown');

/** A record whose length contradicts its kind. It was skipped; the records after it are not affected. */
export class ProtocolErrorEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'protocol-error';
  /** The record's type on the wire. */
  declare readonly recordType: number;
  /** A copy of the record's body. */
  declare readonly body: Uint8Array;
  /** What is wrong with it. */
  declare readonly error: ProtocolError;

  /** @internal */
  constructor(recordType: number, body: Uint8Array, error: ProtocolError) {
    super();
    this.recordType = recordType;
    this.body = body;
    this.error = error;
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      type: this.type,
      recordType: this.recordType,
      body: this.body,
      error: this.error.message,
    };
  }
}
defineType(ProtocolErrorEvent, 'protocol-error');

/** Everything that one command made the driver queue lies before this record. A device keeps it to itself. */
export class ReplyEndRecord extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'reply-end';
  /** The value of the command on the wire. */
  declare readonly command: number;
  /** The how-manieth command of its kind is answered, from 1. */
  declare readonly sequence: bigint;

  /** @internal */
  constructor(source: RecordSource, offset: number) {
    super();
    this.command = source.view.getUint8(offset);
    this.sequence = source.view.getBigUint64(offset + 1, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, command: this.command, sequence: this.sequence };
  }
}
defineType(ReplyEndRecord, 'reply-end');

/** The image path of a process. A device keeps it to itself, as the `processPath` of later events. */
export class ProcessInfoRecord extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'process-info';
  /** The process. */
  declare readonly processId: number;
  /** Its image path, as Windows' kernel writes it. */
  declare readonly path: string;

  /** @internal */
  constructor(source: RecordSource, offset: number, length: number) {
    super();
    const { buffer, byteOffset } = source.bytes;
    this.processId = readNumber(source.view, offset);
    this.path = Buffer.from(buffer, byteOffset + offset + 8, length - 8).toString('utf16le');
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, processId: this.processId, path: this.path };
  }
}
defineType(ProcessInfoRecord, 'process-info');

/**
 * Everything that a device tells, told apart by `type`.
 *
 * @example
 * ```ts
 * function describe(event: NetVerdictEvent): string {
 *   return event.type === 'lost' ? `${event.count} records lost` : event.type;
 * }
 * ```
 */
export type NetVerdictEvent =
  | ConnectionEvent
  | ConnectionEndEvent
  | BandwidthEvent
  | LogEvent
  | LostEvent
  | TimeoutEvent
  | UnknownEvent
  | ProtocolErrorEvent;

/** The event of a type. */
export type EventOf<T extends EventType> = Extract<NetVerdictEvent, Readonly<Record<'type', T>>>;

/** The types of events. */
export type EventType = NetVerdictEvent['type'];

/** Everything that the codec makes of the driver's bytes: the events, and two records that a device keeps to itself. */
export type InfoRecord = NetVerdictEvent | ReplyEndRecord | ProcessInfoRecord;

/** @internal */
export const EVENT_TYPES: readonly EventType[] = [
  'connection',
  'connection-end',
  'bandwidth',
  'log',
  'lost',
  'timeout',
  'unknown',
  'protocol-error',
];

/** @internal The name of a record type, for messages. */
export function recordTypeName(type: number): string {
  const entry = Object.entries(InfoType).find(([, value]) => value === type);
  return entry?.[0] ?? String(type);
}
