/** Decodes the driver's byte stream, split anywhere, into records. @internal */

import { ProtocolError } from '../base/errors.js';
import {
  BandwidthEntry,
  BandwidthEvent,
  ConnectionEndEvent,
  ConnectionEndedRecord,
  ConnectionEvent,
  ConnectionInfoRecord,
  LogEvent,
  LostEvent,
  ProcessInfoRecord,
  ProtocolErrorEvent,
  ReplyEndRecord,
  StalledEvent,
  TimeoutEvent,
  UnknownEvent,
  type InfoRecord,
} from './events.js';
import { ProcessPaths } from './process_paths.js';
import type { RecordSource, VerdictSink } from './record_view.js';
import {
  BandwidthEntryLayout,
  BandwidthStatsLayout,
  ClientStalledLayout,
  ConnectionEndedLayout,
  ConnectionInfoLayout,
  ConnectionLayout,
  ConnectionTimeoutLayout,
  EventsLostLayout,
  InfoType,
  LogLineLayout,
  MAX_PATH_LENGTH,
  MAX_RECORD_LENGTH,
  PATH_CHARACTER_SIZE,
  ProcessInfoLayout,
  RecordHeaderLayout,
  ReplyEndLayout,
} from './wire.js';

/** What a device adds to the decoder. */
export interface DecoderHooks {
  /** Receives the verdicts of the events. */
  readonly verdicts: VerdictSink;
  /** Called for every record except connection events. Returning true removes the record from the stream. */
  intercept(record: InfoRecord): boolean;
}

// The JIT compiler folds local constants, unlike the properties of an imported object.
const { type: TYPE, length: LENGTH, byteLength: HEADER_SIZE } = RecordHeaderLayout;
const { v4: CONNECTION_V4, v6: CONNECTION_V6 } = ConnectionLayout;

const MIN_PARTIAL_CAPACITY = 4096;
const NO_BYTES = new Uint8Array(0);

export class RecordDecoder {
  readonly #hooks: DecoderHooks | undefined;
  readonly #processPaths = new ProcessPaths();
  /** The start of a record whose remaining bytes have not arrived. */
  #partial: Uint8Array = NO_BYTES;
  #partialLength = 0;
  #failure: ProtocolError | undefined;
  /** What the last record says about the next one. */
  #details: ConnectionInfoRecord | ConnectionEndedRecord | undefined;

  constructor(hooks?: DecoderHooks) {
    this.#hooks = hooks;
  }

  get pendingBytes(): number {
    return this.#partialLength;
  }

  get failure(): ProtocolError | undefined {
    return this.#failure;
  }

  push(bytes: Uint8Array): InfoRecord[] {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    const records: InfoRecord[] = [];
    const start = this.#partialLength > 0 ? this.#finishPartial(bytes, records) : 0;
    if (start < bytes.length && this.failure === undefined) {
      const end = this.#decodeWhole(bytes, start, records);
      if (end < bytes.length) {
        this.#keepPartial(bytes, end);
      }
    }
    this.#throwFailureAlone(records);
    return records;
  }

  end(): void {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (this.#partialLength > 0) {
      throw new ProtocolError(
        `The stream ends within a record, ${this.#partialLength} bytes after its beginning. ` +
          'Push every byte that was read before ending the decoder.',
      );
    }
  }

  /** Decodes the records that are complete in `bytes`. Returns the end of the last one. */
  #decodeWhole(bytes: Uint8Array, start: number, records: InfoRecord[]): number {
    let source = this.source(bytes);
    const { view } = source;
    let offset = start;
    while (bytes.length - offset >= HEADER_SIZE) {
      const type = view.getUint8(offset + TYPE);
      const length = view.getUint32(offset + LENGTH, true);
      const end = offset + HEADER_SIZE + length;
      if (length > MAX_RECORD_LENGTH) {
        this.#fail(type, length);
        return bytes.length;
      }
      if (end > bytes.length) {
        return offset;
      }
      const record = decodeRecord(source, type, offset + HEADER_SIZE, length);
      if (this.#details !== undefined) {
        this.#addDetails(record);
      }
      if (record instanceof ConnectionEvent) {
        records.push(record);
      } else {
        if (!this.#consume(record)) {
          records.push(record);
        }
        if (source.time !== this.#processPaths.time) {
          source = { ...source, time: this.#processPaths.time };
        }
      }
      offset = end;
    }
    return offset;
  }

  /** Completes the partial record with the first bytes of `bytes`. Returns how many it took. */
  #finishPartial(bytes: Uint8Array, records: InfoRecord[]): number {
    let used = this.#growPartial(bytes, 0, HEADER_SIZE);
    if (this.#partialLength < HEADER_SIZE) {
      return used;
    }
    const { buffer, byteOffset } = this.#partial;
    const header = new DataView(buffer, byteOffset, HEADER_SIZE);
    const length = header.getUint32(LENGTH, true);
    if (length > MAX_RECORD_LENGTH) {
      this.#fail(header.getUint8(TYPE), length);
      return used;
    }
    const total = HEADER_SIZE + length;
    used += this.#growPartial(bytes, used, total);
    if (this.#partialLength === total) {
      const record = this.#partial.subarray(0, total);
      this.#dropPartial();
      this.#decodeWhole(record, 0, records);
    }
    return used;
  }

  #keepPartial(bytes: Uint8Array, start: number): void {
    this.#growPartial(bytes, start, bytes.length - start);
  }

  /** Appends to the partial record until it has `total` bytes or `bytes` ends. Returns how many it appended. */
  #growPartial(bytes: Uint8Array, start: number, total: number): number {
    const count = Math.max(0, Math.min(total - this.#partialLength, bytes.length - start));
    const needed = this.#partialLength + count;
    if (needed > this.#partial.length) {
      const capacity = Math.max(needed, MIN_PARTIAL_CAPACITY, 2 * this.#partial.length);
      const grown = new Uint8Array(capacity);
      grown.set(this.#partial.subarray(0, this.#partialLength));
      this.#partial = grown;
    }
    this.#partial.set(bytes.subarray(start, start + count), this.#partialLength);
    this.#partialLength = needed;
    return count;
  }

  #dropPartial(): void {
    this.#partial = NO_BYTES;
    this.#partialLength = 0;
  }

  /** What views of `bytes` need: they may be records, or the reply to a control request. */
  source(bytes: Uint8Array): RecordSource {
    return {
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      verdicts: this.#hooks?.verdicts,
      processPaths: this.#processPaths,
      time: this.#processPaths.time,
    };
  }

  /** Gives a record what the record right before it says about it. */
  #addDetails(record: InfoRecord): void {
    const details = this.#details;
    this.#details = undefined;
    if (details?.type === 'connection-info' && record instanceof ConnectionEvent) {
      record.info = details.id === record.id ? details : undefined;
    }
    if (details?.type === 'connection-ended' && record instanceof ConnectionEndEvent) {
      record.ended = details;
    }
  }

  #consume(record: InfoRecord): boolean {
    if (record.type === 'connection-info' || record.type === 'connection-ended') {
      this.#details = record;
    }
    if (record.type === 'process-info') {
      this.#processPaths.remember(record.processId, record.path);
    }
    return this.#hooks?.intercept(record) === true;
  }

  #fail(type: number, length: number): void {
    this.#dropPartial();
    this.#failure = new ProtocolError(
      `The stream is corrupt: the header of a record of type ${type} gives a length of ${length} bytes, and the ` +
        `maximum is ${MAX_RECORD_LENGTH}. Close the device and open it again.`,
    );
  }

  #throwFailureAlone(records: readonly InfoRecord[]): void {
    if (this.#failure !== undefined && records.length === 0) {
      throw this.#failure;
    }
  }
}

/** Decodes the record whose body lies at `body` and has `length` bytes. */
function decodeRecord(
  source: RecordSource,
  type: number,
  body: number,
  length: number,
): InfoRecord {
  switch (type) {
    case InfoType.ConnectionV4:
      return decodeConnection(source, type, body, length, CONNECTION_V4);
    case InfoType.ConnectionV6:
      return decodeConnection(source, type, body, length, CONNECTION_V6);
    case InfoType.ConnectionEndV4:
      return decodeConnectionEnd(source, type, body, length, CONNECTION_V4);
    case InfoType.ConnectionEndV6:
      return decodeConnectionEnd(source, type, body, length, CONNECTION_V6);
    case InfoType.BandwidthStatsV4:
      return decodeBandwidth(source, type, body, length, BandwidthEntryLayout.v4);
    case InfoType.BandwidthStatsV6:
      return decodeBandwidth(source, type, body, length, BandwidthEntryLayout.v6);
    case InfoType.LogLine:
      return length < LogLineLayout.byteLength
        ? invalid(source, type, body, length)
        : new LogEvent(source, body, length);
    case InfoType.EventsLost:
      return length < EventsLostLayout.byteLength
        ? invalid(source, type, body, length)
        : new LostEvent(source, body, length);
    case InfoType.ReplyEnd:
      return length < ReplyEndLayout.byteLength
        ? invalid(source, type, body, length)
        : new ReplyEndRecord(source, body);
    case InfoType.ProcessInfo:
      return length < ProcessInfoLayout.byteLength ||
        length - ProcessInfoLayout.byteLength > MAX_PATH_LENGTH ||
        (length - ProcessInfoLayout.byteLength) % PATH_CHARACTER_SIZE !== 0
        ? invalid(source, type, body, length)
        : new ProcessInfoRecord(source, body, length);
    case InfoType.ConnectionTimeout:
      return length < ConnectionTimeoutLayout.byteLength
        ? invalid(source, type, body, length)
        : new TimeoutEvent(source, body, length);
    case InfoType.ClientStalled:
      return length < ClientStalledLayout.byteLength
        ? invalid(source, type, body, length)
        : new StalledEvent(source, body);
    case InfoType.ConnectionInfo:
      return length < ConnectionInfoLayout.byteLength
        ? invalid(source, type, body, length)
        : new ConnectionInfoRecord(source, body);
    case InfoType.ConnectionEnded:
      return length < ConnectionEndedLayout.byteLength
        ? invalid(source, type, body, length)
        : new ConnectionEndedRecord(source, body);
    default:
      return new UnknownEvent(source, type, body, length);
  }
}

function decodeConnection(
  source: RecordSource,
  type: number,
  body: number,
  length: number,
  layout: ConnectionLayout,
): InfoRecord {
  const payloadRoom = length - layout.byteLength;
  return payloadRoom < 0 || source.view.getUint32(body + layout.payloadLength, true) > payloadRoom
    ? invalid(source, type, body, length)
    : new ConnectionEvent(source, body, layout);
}

/** An end record has the fields of a connection record from `processId` to before `payloadLayer`. */
function decodeConnectionEnd(
  source: RecordSource,
  type: number,
  body: number,
  length: number,
  layout: ConnectionLayout,
): InfoRecord {
  return length < layout.payloadLayer - layout.processId
    ? invalid(source, type, body, length)
    : new ConnectionEndEvent(source, body - layout.processId, layout);
}

function decodeBandwidth(
  source: RecordSource,
  type: number,
  body: number,
  length: number,
  layout: BandwidthEntryLayout,
): InfoRecord {
  const room = length - BandwidthStatsLayout.byteLength;
  const count = room < 0 ? 0 : source.view.getUint32(body + BandwidthStatsLayout.count, true);
  if (count * layout.byteLength > room) {
    return invalid(source, type, body, length);
  }
  const protocol = source.view.getUint8(body + BandwidthStatsLayout.protocol);
  const first = body + BandwidthStatsLayout.byteLength;
  const entries = Array.from(
    { length: count },
    (_, index) => new BandwidthEntry(source, first + index * layout.byteLength, layout, protocol),
  );
  return new BandwidthEvent(protocol, layout.ipVersion, entries);
}

function invalid(
  source: RecordSource,
  type: number,
  body: number,
  length: number,
): ProtocolErrorEvent {
  return new ProtocolErrorEvent(source, type, body, length);
}
