/** What the driver reports, as the application sees it. */

import { ProtocolError } from '../base/errors.js';
import type { BandwidthEvent } from './bandwidth_events.js';
import type { ConnectionEndedRecord, ConnectionInfoRecord } from './connection_details.js';
import type { ConnectionEndEvent, ConnectionEvent } from './connection_events.js';
import type { StalledEvent, TimeoutEvent } from './life_events.js';
import { cureOf, lossOf, type LossReason } from './losses.js';
import { EventBase, defineType, type RecordSource } from './record_view.js';
import {
  EventsLostLayout,
  EventsLostOwnerLayout,
  InfoType,
  LogLineLayout,
  ProcessInfoLayout,
  ReplyEndLayout,
  readNumber,
} from './wire.js';

export { BandwidthEntry, BandwidthEvent } from './bandwidth_events.js';
export {
  ConnectionEndEvent,
  ConnectionEvent,
  type Direction,
  type RedirectOptions,
  type VerdictOptions,
} from './connection_events.js';
export {
  ConnectionEndedRecord,
  ConnectionInfoRecord,
  type EndReason,
} from './connection_details.js';
export {
  ResolvedConnection,
  StalledEvent,
  TimeoutEvent,
  type TimeoutCause,
} from './life_events.js';
export type { LossReason } from './losses.js';

/** The severity of a log line, in ascending order. */
export type LogSeverity = 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical';

/** @internal In the order of their numbers on the wire, from 1. */
export const SEVERITIES: readonly LogSeverity[] = [
  'trace',
  'debug',
  'info',
  'warning',
  'error',
  'critical',
];

/** @internal The severity's number on the wire. */
export function severityNumber(severity: LogSeverity): number {
  return SEVERITIES.indexOf(severity) + 1;
}

/** A line of the driver's log that answers no pending `getLogs()` of this device. */
export class LogEvent extends EventBase {
  /** Discriminates the events. */
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

  /** The line's severity. */
  get severity(): LogSeverity {
    const number = this.source.view.getUint8(this.offset + LogLineLayout.severity);
    return SEVERITIES[number - 1] ?? (number === 0 ? 'trace' : 'critical');
  }

  /** The line's text. */
  get message(): string {
    const { buffer, byteOffset } = this.source.bytes;
    const start = byteOffset + this.offset + LogLineLayout.byteLength;
    return Buffer.from(buffer, start, this.length - LogLineLayout.byteLength).toString('utf8');
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, severity: this.severity, message: this.message };
  }
}
defineType(LogEvent, 'log');

/** Records that the driver could not report. Its fail policy decided their packets. */
export class LostEvent extends EventBase {
  /** Discriminates the events. */
  declare readonly type: 'lost';
  /** The number of records lost since the last `lost` event. */
  declare readonly count: bigint;
  /** Why they were lost. */
  declare readonly reason: LossReason;
  /** The process that they were about; 0 for several or none, undefined if the driver does not say it. */
  declare readonly processId: number | undefined;

  /** @internal */
  constructor({ view }: RecordSource, offset: number, length: number) {
    super();
    this.count = view.getBigUint64(offset + EventsLostLayout.count, true);
    this.reason = lossOf(view.getUint8(offset + EventsLostLayout.reason)).reason;
    const owner = offset + EventsLostLayout.byteLength;
    const hasOwner = length >= EventsLostLayout.byteLength + EventsLostOwnerLayout.byteLength;
    this.processId = hasOwner
      ? readNumber(view, owner + EventsLostOwnerLayout.processId)
      : undefined;
  }

  /** What helps against such losses, in a sentence. */
  get cure(): string {
    return cureOf(this.reason);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { type, count, reason, processId } = this;
    return { type, count, reason, ...(processId === undefined ? {} : { processId }) };
  }
}
defineType(LostEvent, 'lost');

/** A record of which the driver and this version do not agree. It is a view, so a flood of them costs little. */
abstract class RawRecord extends EventBase {
  /** The record's type on the wire. */
  declare readonly recordType: number;
  declare private readonly source: RecordSource;
  declare private readonly offset: number;
  /** @internal */
  declare protected readonly length: number;

  /** @internal */
  constructor(source: RecordSource, recordType: number, offset: number, length: number) {
    super();
    this.recordType = recordType;
    this.source = source;
    this.offset = offset;
    this.length = length;
  }

  /** A copy of the record's body. Each access makes a new copy. */
  get body(): Uint8Array {
    return this.source.bytes.slice(this.offset, this.offset + this.length);
  }
}

/** A record whose type this version does not know. A newer driver may send it; it is never an error. */
export class UnknownEvent extends RawRecord {
  /** Discriminates the events. */
  declare readonly type: 'unknown';

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, recordType: this.recordType, body: this.body };
  }
}
defineType(UnknownEvent, 'unknown');

/** A record whose length contradicts its type. It was skipped; the records after it are intact. */
export class ProtocolErrorEvent extends RawRecord {
  /** Discriminates the events. */
  declare readonly type: 'protocol-error';

  /** What is wrong with the record. */
  get error(): ProtocolError {
    return new ProtocolError(
      `The length of a ${recordTypeName(this.recordType)} record, ${this.length} bytes, contradicts its fields; it was ` +
        'skipped. The driver and this package disagree: report it with the versions of both.',
    );
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

/** Ends the answer to a command: all its records come before this one. A device does not pass it on. */
export class ReplyEndRecord extends EventBase {
  /** Discriminates the records. */
  declare readonly type: 'reply-end';
  /** The command's number on the wire. */
  declare readonly command: number;
  /** Counts the answered commands of this kind, from 1. */
  declare readonly sequence: bigint;

  /** @internal */
  constructor({ view }: RecordSource, offset: number) {
    super();
    this.command = view.getUint8(offset + ReplyEndLayout.command);
    this.sequence = view.getBigUint64(offset + ReplyEndLayout.sequence, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, command: this.command, sequence: this.sequence };
  }
}
defineType(ReplyEndRecord, 'reply-end');

/** The image path of a process. A device does not pass it on: later events show it as `processPath`. */
export class ProcessInfoRecord extends EventBase {
  /** Discriminates the records. */
  declare readonly type: 'process-info';
  /** The id of the process. */
  declare readonly processId: number;
  /** The image path in the form of the Windows kernel: `\device\harddiskvolume1\…`. */
  declare readonly path: string;

  /** @internal */
  constructor({ bytes, view }: RecordSource, offset: number, length: number) {
    super();
    const start = bytes.byteOffset + offset + ProcessInfoLayout.byteLength;
    this.processId = readNumber(view, offset + ProcessInfoLayout.processId);
    this.path = Buffer.from(bytes.buffer, start, length - ProcessInfoLayout.byteLength).toString(
      'utf16le',
    );
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, processId: this.processId, path: this.path };
  }
}
defineType(ProcessInfoRecord, 'process-info');

/**
 * Any event of a device. `type` discriminates the union.
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
  | StalledEvent
  | UnknownEvent
  | ProtocolErrorEvent;

/** The event of a type. */
export type EventOf<T extends EventType> = Extract<NetVerdictEvent, Readonly<Record<'type', T>>>;

/** The types of events. */
export type EventType = NetVerdictEvent['type'];

/** Any record that the codec decodes: the events, and the records that a device does not pass on. */
export type InfoRecord =
  | NetVerdictEvent
  | ReplyEndRecord
  | ProcessInfoRecord
  | ConnectionInfoRecord
  | ConnectionEndedRecord;

/** @internal */
export const EVENT_TYPES: readonly EventType[] = [
  'connection',
  'connection-end',
  'bandwidth',
  'log',
  'lost',
  'timeout',
  'stalled',
  'unknown',
  'protocol-error',
];

/** @internal The name of a record type, for messages. */
export function recordTypeName(type: number): string {
  const entry = Object.entries(InfoType).find(([, value]) => value === type);
  return entry?.[0] ?? String(type);
}
