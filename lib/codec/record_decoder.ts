/** From the driver's byte stream to records: split anywhere, whole records decoded where they lie. @internal */

import { ProtocolError } from '../base/errors.js';
import {
  BandwidthEntry,
  BandwidthEvent,
  ConnectionEndEvent,
  ConnectionEvent,
  LogEvent,
  LostEvent,
  ProcessInfoRecord,
  ProtocolErrorEvent,
  ReplyEndRecord,
  TimeoutEvent,
  UnknownEvent,
  recordTypeName,
  type InfoRecord,
} from './events.js';
import { ProcessPaths } from './process_paths.js';
import type { RecordSource, VerdictSink } from './record_view.js';
import { InfoType, MAX_RECORD_LENGTH, RECORD_HEADER_SIZE } from './wire.js';

/** What a device adds to the decoder. */
export interface DecoderHooks {
  /** Carries out the verdicts of the events. */
  readonly verdicts: VerdictSink;
  /** Sees every record but the connections' own; takes it for itself by returning true. */
  intercept(record: InfoRecord): boolean;
}

const MIN_PARTIAL_CAPACITY = 4096;
const NO_BYTES = new Uint8Array(0);

export class RecordDecoder {
  readonly #hooks: DecoderHooks | undefined;
  readonly #processPaths = new ProcessPaths();
  /** The beginning of a record whose rest has not come yet. */
  #partial: Uint8Array = NO_BYTES;
  #partialLength = 0;
  #failure: ProtocolError | undefined;

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

  /** Decodes the records that lie wholly in `bytes`; returns where they end. */
  #decodeWhole(bytes: Uint8Array, start: number, records: InfoRecord[]): number {
    let source = this.#newSource(bytes);
    const { view } = source;
    let offset = start;
    while (bytes.length - offset >= RECORD_HEADER_SIZE) {
      const length = view.getUint32(offset + 1, true);
      const end = offset + RECORD_HEADER_SIZE + length;
      if (length > MAX_RECORD_LENGTH) {
        this.#fail(view.getUint8(offset), length);
        return bytes.length;
      }
      if (end > bytes.length) {
        return offset;
      }
      const record = decodeRecord(source, offset, length);
      if (record instanceof ConnectionEvent || !this.#consume(record)) {
        records.push(record);
      }
      if (source.time !== this.#processPaths.time) {
        source = { ...source, time: this.#processPaths.time };
      }
      offset = end;
    }
    return offset;
  }

  /** Completes the partial record from the beginning of `bytes`; returns how many of them it took. */
  #finishPartial(bytes: Uint8Array, records: InfoRecord[]): number {
    let used = this.#growPartial(bytes, 0, RECORD_HEADER_SIZE);
    if (this.#partialLength < RECORD_HEADER_SIZE) {
      return used;
    }
    const { buffer, byteOffset } = this.#partial;
    const length = new DataView(buffer, byteOffset, RECORD_HEADER_SIZE).getUint32(1, true);
    if (length > MAX_RECORD_LENGTH) {
      this.#fail(this.#partial[0] ?? 0, length);
      return used;
    }
    const total = RECORD_HEADER_SIZE + length;
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

  /** Moves bytes to the partial record until it has `total` of them or there are no more; returns how many it moved. */
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

  #newSource(bytes: Uint8Array): RecordSource {
    return {
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      verdicts: this.#hooks?.verdicts,
      processPaths: this.#processPaths,
      time: this.#processPaths.time,
    };
  }

  #consume(record: InfoRecord): boolean {
    if (record.type === 'process-info') {
      this.#processPaths.remember(record.processId, record.path);
    }
    return this.#hooks?.intercept(record) === true;
  }

  #fail(type: number, length: number): void {
    this.#dropPartial();
    this.#failure = new ProtocolError(
      `The stream is corrupt: a record of type ${type} says it has ${length} bytes, and no record has more than ` +
        `${MAX_RECORD_LENGTH}. Close the device and open it again.`,
    );
  }

  #throwFailureAlone(records: readonly InfoRecord[]): void {
    if (this.#failure !== undefined && records.length === 0) {
      throw this.#failure;
    }
  }
}

/** Decodes the record at `offset`, header included, of which `length` bytes of body are there. */
function decodeRecord(source: RecordSource, offset: number, length: number): InfoRecord {
  const { view } = source;
  const body = offset + RECORD_HEADER_SIZE;
  switch (view.getUint8(offset)) {
    case InfoType.ConnectionV4:
      return decodeConnection(source, offset, length, 4);
    case InfoType.ConnectionV6:
      return decodeConnection(source, offset, length, 16);
    case InfoType.ConnectionEndV4:
      return length < endSize(4)
        ? invalid(source, offset, length)
        : new ConnectionEndEvent(source, body, 4);
    case InfoType.ConnectionEndV6:
      return length < endSize(16)
        ? invalid(source, offset, length)
        : new ConnectionEndEvent(source, body, 16);
    case InfoType.BandwidthStatsV4:
      return decodeBandwidth(source, offset, length, 4);
    case InfoType.BandwidthStatsV6:
      return decodeBandwidth(source, offset, length, 16);
    case InfoType.LogLine:
      return length < 1 ? invalid(source, offset, length) : new LogEvent(source, body, length);
    case InfoType.EventsLost:
      return length < 9 ? invalid(source, offset, length) : new LostEvent(source, body);
    case InfoType.ReplyEnd:
      return length < 9 ? invalid(source, offset, length) : new ReplyEndRecord(source, body);
    case InfoType.ProcessInfo:
      return length < 8 || length % 2 !== 0
        ? invalid(source, offset, length)
        : new ProcessInfoRecord(source, body, length);
    case InfoType.ConnectionTimeout:
      return length < 8 ? invalid(source, offset, length) : new TimeoutEvent(source, body);
    default:
      return new UnknownEvent(view.getUint8(offset), source.bytes.slice(body, body + length));
  }
}

function endSize(addressLength: number): number {
  return 14 + 2 * addressLength;
}

function decodeConnection(
  source: RecordSource,
  offset: number,
  length: number,
  addressLength: number,
): InfoRecord {
  const fixed = 27 + 2 * addressLength;
  const body = offset + RECORD_HEADER_SIZE;
  if (length < fixed || source.view.getUint32(body + fixed - 4, true) > length - fixed) {
    return invalid(source, offset, length);
  }
  return new ConnectionEvent(source, body + 8, addressLength);
}

function decodeBandwidth(
  source: RecordSource,
  offset: number,
  length: number,
  addressLength: number,
): InfoRecord {
  const body = offset + RECORD_HEADER_SIZE;
  const entrySize = 20 + 2 * addressLength;
  const count = length < 5 ? 0 : source.view.getUint32(body + 1, true);
  if (length < 5 || 5 + count * entrySize > length) {
    return invalid(source, offset, length);
  }
  const protocol = source.view.getUint8(body);
  const entries = Array.from(
    { length: count },
    (_, index) => new BandwidthEntry(source, body + 5 + index * entrySize, addressLength, protocol),
  );
  return new BandwidthEvent(protocol, addressLength === 4 ? 4 : 6, entries);
}

function invalid(source: RecordSource, offset: number, length: number): ProtocolErrorEvent {
  const type = source.view.getUint8(offset);
  const body = offset + RECORD_HEADER_SIZE;
  const error = new ProtocolError(
    `A ${recordTypeName(type)} record of ${length} bytes is shorter than what it says it holds; it was skipped. ` +
      'The driver and this package do not agree: report it with the versions of both.',
  );
  return new ProtocolErrorEvent(type, source.bytes.slice(body, body + length), error);
}
