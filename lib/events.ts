/**
 * What the driver reports, as the application sees it.
 *
 * An event is a view of its record: a getter reads the bytes of the batch that the record came in, so that an event
 * costs nothing for the fields that nobody asks for. A batch's bytes are never written again and live as long as one of
 * its events does.
 */

import { formatIPv4, formatIPv6 } from './addresses.js';
import {
  AlreadyDecidedError,
  InvalidArgumentError,
  UnsupportedError,
  type ProtocolError,
} from './errors.js';
import { protocolName } from './protocols.js';
import { REDIRECT_VERDICTS, Verdict, type RedirectTarget } from './verdicts.js';
import { InfoType } from './wire.js';

/** Which way a connection or packet goes, seen from this computer. */
export type Direction = 'outbound' | 'inbound';

/** How serious a log line is, from the least to the most. */
export type LogSeverity = 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical';

/** Why records were lost: the event queue or the table of held packets was full, or memory was. */
export type LossReason = 'event-queue-full' | 'held-packet-limit' | 'out-of-memory' | 'unknown';

/** How long a verdict of a connection event holds. */
export interface VerdictOptions {
  /** For the rest of the connection (`true`), or for this packet alone (`false`, the default). */
  readonly permanent?: boolean;
}

/** How long a redirection holds: there is no temporary one. */
export interface RedirectOptions {
  /** A redirection always holds for the rest of the connection. */
  readonly permanent?: true;
}

/** @internal Who carries the verdicts of events out; ids come in two halves, to spare a bigint each. */
export interface VerdictSink {
  decide(idLow: number, idHigh: number, verdict: Verdict): void;
}

/** @internal The batch that a record came in. */
export interface RecordSource {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly verdicts: VerdictSink | undefined;
  readonly processPaths: ReadonlyMap<number, string>;
}

const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;
const HIGH_WORD = 0x1_0000_0000;

const SEVERITIES: readonly LogSeverity[] = [
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

/** What every event can do: show itself to `console.log` and to `JSON.stringify`. */
abstract class EventBase {
  /** @internal */
  abstract fields(): Record<string, unknown>;

  /** The event as plain JSON: bigints as decimal text, bytes as base64. */
  toJSON(): Record<string, unknown> {
    return Object.fromEntries(
      Object.entries(this.fields()).map(([name, value]) => [name, jsonSafe(value)]),
    );
  }

  /** @internal */
  [INSPECT](): Record<string, unknown> {
    return this.fields();
  }
}

function jsonSafe(value: unknown): unknown {
  if (typeof value === 'bigint') {
    return value.toString();
  }
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64');
  }
  return value;
}

function readNumber(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * HIGH_WORD;
}

function formatAt(bytes: Uint8Array, offset: number, length: number): string {
  return length === 4 ? formatIPv4(bytes, offset) : formatIPv6(bytes, offset);
}

/**
 * The type is a constant of the prototype, where it costs an event neither memory nor time.
 */
function defineType(eventClass: { readonly prototype: EventBase }, type: string): void {
  Object.defineProperty(eventClass.prototype, 'type', { value: type, enumerable: true });
}

/**
 * Whose connection it is: what `connection` and `connection-end` events have in common.
 *
 * Fields are declared, not defined: the constructor alone writes them, once, which makes an event three times as cheap.
 */
abstract class ConnectionRecord extends EventBase {
  /** @internal */
  declare protected readonly source: RecordSource;
  /** @internal Of the process id, the first of the fields that both kinds of record have. */
  declare protected readonly offset: number;
  /** @internal 4 or 16. */
  declare protected readonly addressLength: number;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number) {
    super();
    this.source = source;
    this.offset = offset;
    this.addressLength = addressLength;
  }

  /** The process that owns the connection; 0 where the driver cannot know it. */
  get processId(): number {
    return readNumber(this.source.view, this.offset);
  }

  /** The image path of the process, if the driver has told it. */
  get processPath(): string | undefined {
    return this.source.processPaths.get(this.processId);
  }

  get direction(): Direction {
    return this.source.view.getUint8(this.offset + 8) === 0 ? 'outbound' : 'inbound';
  }

  /** The IANA number of the protocol above IP. */
  get protocol(): number {
    return this.source.view.getUint8(this.offset + 9);
  }

  /** The protocol's name in lower case, such as `'tcp'`, or its number as text. */
  get protocolName(): string {
    return protocolName(this.protocol);
  }

  get ipVersion(): 4 | 6 {
    return this.addressLength === 4 ? 4 : 6;
  }

  /** As text; IPv6 as in RFC 5952. */
  get localAddress(): string {
    return formatAt(this.source.bytes, this.offset + 10, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get localAddressBytes(): Uint8Array {
    const start = this.offset + 10;
    return this.source.bytes.slice(start, start + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get localPort(): number {
    return this.source.view.getUint16(this.offset + 10 + 2 * this.addressLength, true);
  }

  /** As text; IPv6 as in RFC 5952. */
  get remoteAddress(): string {
    return formatAt(this.source.bytes, this.offset + 10 + this.addressLength, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get remoteAddressBytes(): Uint8Array {
    const start = this.offset + 10 + this.addressLength;
    return this.source.bytes.slice(start, start + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get remotePort(): number {
    return this.source.view.getUint16(this.offset + 12 + 2 * this.addressLength, true);
  }

  /** @internal */
  identity(): Record<string, unknown> {
    const path = this.processPath;
    return {
      processId: this.processId,
      ...(path === undefined ? {} : { processPath: path }),
      direction: this.direction,
      protocol: this.protocol,
      protocolName: this.protocolName,
      ipVersion: this.ipVersion,
      localAddress: this.localAddress,
      localPort: this.localPort,
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
    };
  }
}

/**
 * A connection or packet that waits for a verdict: one, by one of the methods here or by `device.setVerdict`.
 *
 * @example
 * ```ts
 * for await (const event of device.events({ types: ['connection'] })) {
 *   if (event.remotePort === 23) event.block({ permanent: true });
 *   else event.accept({ permanent: true });
 * }
 * ```
 */
export class ConnectionEvent extends ConnectionRecord {
  declare readonly type: 'connection';
  declare private decided: boolean;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number) {
    super(source, offset, addressLength);
    this.decided = false;
  }

  /** What a verdict for it is given by. */
  get id(): bigint {
    return this.source.view.getBigUint64(this.offset - 8, true);
  }

  /** Where the payload begins: 3 at the IP header, 4 at the transport header. */
  get payloadLayer(): 3 | 4 {
    return this.source.view.getUint8(this.payloadOffset - 5) === 3 ? 3 : 4;
  }

  /** How many bytes `payload` has. */
  get payloadLength(): number {
    return this.source.view.getUint32(this.payloadOffset - 4, true);
  }

  /** The packet's bytes, as far as the driver reports them: a new copy at each read, which the application may keep. */
  get payload(): Uint8Array {
    const start = this.payloadOffset;
    return this.source.bytes.slice(start, start + this.payloadLength);
  }

  /**
   * Lets it through.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  accept(options?: VerdictOptions): void {
    this.decide(options?.permanent === true ? Verdict.PermanentAccept : Verdict.Accept);
  }

  /**
   * Refuses it: the application that wants it is told so at once.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  block(options?: VerdictOptions): void {
    this.decide(options?.permanent === true ? Verdict.PermanentBlock : Verdict.Block);
  }

  /**
   * Discards it without a word.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  drop(options?: VerdictOptions): void {
    this.decide(options?.permanent === true ? Verdict.PermanentDrop : Verdict.Drop);
  }

  /**
   * Sends the whole connection to the resolver or to a tunnel port of this computer.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed;
   *   {@link InvalidArgumentError} when the target is none of the three, or `permanent` is false.
   */
  redirect(target: RedirectTarget, options?: RedirectOptions): void {
    const asked: VerdictOptions | undefined = options;
    if (!Object.hasOwn(REDIRECT_VERDICTS, target) || asked?.permanent === false) {
      throw new InvalidArgumentError(
        `A connection is redirected to 'nameserver', 'tunnel' or 'split-tunnel', and always as a whole. ` +
          `Got ${JSON.stringify(target)}${asked?.permanent === false ? ' with permanent: false' : ''}.`,
      );
    }
    this.decide(REDIRECT_VERDICTS[target]);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      type: this.type,
      id: this.id,
      ...this.identity(),
      payloadLayer: this.payloadLayer,
      payload: this.payload,
    };
  }

  private get payloadOffset(): number {
    return this.offset + 19 + 2 * this.addressLength;
  }

  private decide(verdict: Verdict): void {
    if (this.decided) {
      throw alreadyDecided(this.id);
    }
    const { verdicts, view } = this.source;
    if (verdicts === undefined) {
      throw new UnsupportedError(
        'This event was decoded from bytes, without a device to carry a verdict out. ' +
          "Encode it instead: encodeCommand({ command: 'verdict', id: event.id, verdict }).",
      );
    }
    const idOffset = this.offset - 8;
    verdicts.decide(view.getUint32(idOffset, true), view.getUint32(idOffset + 4, true), verdict);
    this.decided = true;
  }
}
defineType(ConnectionEvent, 'connection');

/** A connection that was reported before is over. */
export class ConnectionEndEvent extends ConnectionRecord {
  declare readonly type: 'connection-end';

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, ...this.identity() };
  }
}
defineType(ConnectionEndEvent, 'connection-end');

/** What one connection has transferred since the counters were last asked for. */
export class BandwidthEntry extends EventBase {
  declare private readonly source: RecordSource;
  declare private readonly offset: number;
  declare private readonly addressLength: number;
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number, protocol: number) {
    super();
    this.source = source;
    this.offset = offset;
    this.addressLength = addressLength;
    this.protocol = protocol;
  }

  get ipVersion(): 4 | 6 {
    return this.addressLength === 4 ? 4 : 6;
  }

  /** As text; IPv6 as in RFC 5952. */
  get localAddress(): string {
    return formatAt(this.source.bytes, this.offset, this.addressLength);
  }

  get localPort(): number {
    return this.source.view.getUint16(this.offset + this.addressLength, true);
  }

  /** As text; IPv6 as in RFC 5952. */
  get remoteAddress(): string {
    return formatAt(this.source.bytes, this.offset + this.addressLength + 2, this.addressLength);
  }

  get remotePort(): number {
    return this.source.view.getUint16(this.offset + 2 * this.addressLength + 2, true);
  }

  /** Payload bytes sent. */
  get transmittedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + 2 * this.addressLength + 4, true);
  }

  /** Payload bytes received. */
  get receivedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + 2 * this.addressLength + 12, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      protocol: this.protocol,
      ipVersion: this.ipVersion,
      localAddress: this.localAddress,
      localPort: this.localPort,
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
      transmittedBytes: this.transmittedBytes,
      receivedBytes: this.receivedBytes,
    };
  }
}

/** Bandwidth counters that no `getBandwidth()` of this device waits for. */
export class BandwidthEvent extends EventBase {
  declare readonly type: 'bandwidth';
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;
  declare readonly ipVersion: 4 | 6;
  declare readonly entries: readonly BandwidthEntry[];

  /** @internal */
  constructor(protocol: number, ipVersion: 4 | 6, entries: readonly BandwidthEntry[]) {
    super();
    this.protocol = protocol;
    this.ipVersion = ipVersion;
    this.entries = entries;
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      type: this.type,
      protocol: this.protocol,
      ipVersion: this.ipVersion,
      entries: this.entries,
    };
  }
}
defineType(BandwidthEvent, 'bandwidth');

/** A line of the driver's log that no `getLogs()` of this device waits for. */
export class LogEvent extends EventBase {
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

  get severity(): LogSeverity {
    const number = this.source.view.getUint8(this.offset);
    return SEVERITIES[number - 1] ?? (number === 0 ? 'trace' : 'critical');
  }

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
  declare readonly type: 'lost';
  /** How many, since the last such event. */
  declare readonly count: bigint;
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
  declare readonly type: 'timeout';
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
  declare readonly type: 'unknown';
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
  declare readonly type: 'protocol-error';
  declare readonly recordType: number;
  /** A copy of the record's body. */
  declare readonly body: Uint8Array;
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
  declare readonly type: 'process-info';
  declare readonly processId: number;
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

/** @internal */
export function alreadyDecided(id: bigint): AlreadyDecidedError {
  return new AlreadyDecidedError(
    `Connection ${id.toString()} has its verdict already: give one verdict for each id. ` +
      'To change the verdict of a live connection, call device.updateVerdict(connection, verdict).',
  );
}

/** @internal The name of a record type, for messages. */
export function recordTypeName(type: number): string {
  const entry = Object.entries(InfoType).find(([, value]) => value === type);
  return entry?.[0] ?? String(type);
}
