/**
 * The stream of events of a device.
 *
 * Each read is decoded once, into a batch of a linked list. An iterator is a place in that list.
 * So every iterator sees every event at its own pace, and batches behind all iterators are garbage-collected.
 * The first iterator starts at the oldest event that none has given; each further one starts at the next event read.
 *
 * Memory is bounded: the stream reads only on demand, and pauses while the slowest iterator is too far behind.
 * Meanwhile the driver queues events, and counts those that it loses.
 *
 * A loop that always finds an event would starve the event loop.
 * So the stream waits for the next turn of the event loop after a number of bytes.
 */

import type { NativeDevice } from '../addon/native.cjs';
import { ProtocolError, type NetVerdictError } from '../base/errors.js';
import type { InfoRecord, NetVerdictEvent } from '../codec/events.js';
import type { RecordDecoder } from '../codec/record_decoder.js';
import type { Pace } from './life_signs.js';
import { LossWarner } from './loss_warner.js';
import type { ReadableAnchor } from './readable_anchor.js';
import { statusError } from './status.js';

const BYTES_PER_TURN = 512 * 1024;
/** A record costs at least this much, so that a flood of tiny ones takes no longer turn. */
const LEAST_COST = 64;
/** A longer read is decoded in pieces, so that it cannot exceed a turn by much. */
const BYTES_PER_PIECE = 64 * 1024;

/** The events of one read, or of a piece of a long one. */
export interface Batch {
  readonly events: readonly NetVerdictEvent[];
  /** The number of bytes of the stream up to the end of this batch. */
  readonly position: number;
  next: Batch | undefined;
}

/** The place of an iterator: before the event at `index` of a batch. */
export interface Place {
  readonly batch: Batch;
  readonly index: number;
}

/** An iterator, as the stream uses it. */
export interface Consumer {
  readonly position: number;
  /** Whether it gives connection events. */
  readonly givesQuestions: boolean;
  /** Whether it has given every event that was decoded. */
  readonly isAtEnd: boolean;
  /** Whether a call of `next()` waits, or one came since the last look. */
  hasMoved(): boolean;
  serve(): void;
  moveTo(place: Place): void;
}

export interface StreamOptions {
  readonly native: Pick<NativeDevice, 'take' | 'end'>;
  readonly decoder: RecordDecoder;
  readonly anchor: ReadableAnchor;
  /** Reading pauses while more bytes than this wait for the slowest iterator. */
  readonly backlogLimit: number;
  /** Whether a request awaits records that never reach an iterator. */
  readonly awaitsReplies: () => boolean;
  /** Called when the awaited records lie behind the backlog limit: the loop that should read may await them. */
  readonly onBacklogFull: () => void;
  /** Called when there is something to read. */
  readonly onReadable: () => void;
  /** Called when the stream ends: with its failure, or with undefined when the driver has shut down. */
  readonly onEnd: (failure: unknown) => void;
}

export const NO_EVENTS: readonly NetVerdictEvent[] = [];

export class EventStream {
  /** Warns of losses that iterators skip. */
  readonly losses = new LossWarner();
  readonly #options: StreamOptions;
  readonly #iterators = new Set<Consumer>();
  /** The iterators with pending calls. */
  readonly #waiting = new Set<Consumer>();
  /** What is left of a read. */
  #unread: Uint8Array | undefined;
  #tail: Batch = { events: NO_EVENTS, position: 0, next: undefined };
  /** The start of the next iterator, while there is none. Otherwise it would keep batches alive. */
  #home: Place | undefined = { batch: this.#tail, index: 0 };
  #end: { readonly failure: unknown } | undefined;
  #bytesLeftInTurn = BYTES_PER_TURN;
  /** Whether every read was taken. The native side then calls `onReadable` for the next one. */
  #drained = false;
  #stalled = false;
  #turnAwaited = false;
  #hadDecider = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    options.anchor.attach(this);
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  get failure(): unknown {
    return this.#end?.failure;
  }

  get drained(): boolean {
    return this.#drained;
  }

  /** Called by the native side when it has a read, or has ended. */
  onReadable(): void {
    this.#drained = false;
    this.#bytesLeftInTurn = BYTES_PER_TURN;
    this.#options.onReadable();
    this.wake();
  }

  /** Whether the driver or the native side may have records that were not decoded. */
  get hasUnread(): boolean {
    return !this.#drained || this.#unread !== undefined;
  }

  /** Looks how the iterators over questions got on since the last look. */
  pace(): Pace {
    const deciders = [...this.#iterators].filter((iterator) => iterator.givesQuestions);
    if (deciders.length === 0) {
      return this.#hadDecider ? 'ended' : 'none';
    }
    const moving = deciders.filter(
      (iterator) => iterator.hasMoved() || (iterator.isAtEnd && !this.hasUnread),
    );
    return moving.length > 0 ? 'moving' : 'waiting';
  }

  /** Serves waiting iterators and requests, as far as there is something to read. */
  wake(): void {
    for (const iterator of this.#iterators) {
      iterator.serve();
    }
    this.#pullForReplies();
    this.updateHold();
  }

  /** Decodes the next read. Returns false if there is none now; waiting iterators are then served later. */
  pull(): boolean {
    while (this.#end === undefined && !this.#drained) {
      if (this.#bytesLeftInTurn <= 0) {
        this.#awaitTurn();
        return false;
      }
      this.#stalled = this.#backlog() > this.#options.backlogLimit;
      if (this.#stalled) {
        return false;
      }
      const bytes = this.#nextPiece();
      if (bytes === null) {
        this.#onDrained();
        return false;
      }
      if (this.#ingest(bytes)) {
        return true;
      }
    }
    return false;
  }

  /** Ends the stream. Iterators still give the events that were read. */
  finish(failure?: unknown): void {
    if (this.#end === undefined) {
      this.#end = { failure };
      this.#unread = undefined;
      this.#options.onEnd(failure);
      this.wake();
    }
  }

  /** Ends the stream and every iterator now. The remaining events are discarded. */
  stop(failure?: unknown): void {
    this.#end ??= { failure };
    this.#unread = undefined;
    this.#tail = { events: NO_EVENTS, position: this.#tail.position, next: undefined };
    const place = { batch: this.#tail, index: 0 };
    if (this.#home !== undefined) {
      this.#home = place;
    }
    for (const iterator of this.#iterators) {
      iterator.moveTo(place);
    }
    this.losses.flush();
    this.wake();
  }

  attach(iterator: Consumer): Place {
    const place = this.#home ?? { batch: this.#tail, index: this.#tail.events.length };
    this.#home = undefined;
    this.#iterators.add(iterator);
    this.#hadDecider ||= iterator.givesQuestions;
    return place;
  }

  detach(iterator: Consumer, place: Place): void {
    if (this.#iterators.delete(iterator) && this.#iterators.size === 0) {
      this.#home = place;
    }
    this.onAdvance();
    this.updateHold();
  }

  /** Called when an iterator moves to the next batch or ends, so that reading may resume. */
  onAdvance(): void {
    if (this.#stalled) {
      this.#stalled = false;
      this.#awaitTurn();
    }
  }

  /** Called when an iterator begins or ends to have pending calls. */
  setWaiting(iterator: Consumer, isWaiting: boolean): void {
    if (isWaiting) {
      this.#waiting.add(iterator);
    } else {
      this.#waiting.delete(iterator);
    }
    this.updateHold();
  }

  /** Keeps the stream alive while something waits on it, even if nothing else refers to it. */
  updateHold(): void {
    const isAwaited =
      this.#end === undefined && (this.#options.awaitsReplies() || this.#waiting.size > 0);
    if (isAwaited) {
      this.#options.anchor.hold(this);
    } else {
      this.#options.anchor.release();
    }
  }

  #nextPiece(): Uint8Array | null {
    const read = this.#unread ?? this.#options.native.take();
    this.#unread = undefined;
    if (read === null || read.length <= BYTES_PER_PIECE) {
      return read;
    }
    this.#unread = read.subarray(BYTES_PER_PIECE);
    return read.subarray(0, BYTES_PER_PIECE);
  }

  #ingest(bytes: Uint8Array): boolean {
    const { decoder } = this.#options;
    const events = decodeEvents(decoder, bytes);
    this.#bytesLeftInTurn -= Math.max(bytes.length, LEAST_COST * events.length);
    if (decoder.failure !== undefined) {
      this.#append(events, bytes.length);
      this.finish(decoder.failure);
      return events.length > 0;
    }
    return this.#append(events, bytes.length);
  }

  #append(events: readonly NetVerdictEvent[], size: number): boolean {
    if (events.length === 0) {
      return false;
    }
    const batch: Batch = { events, position: this.#tail.position + size, next: undefined };
    this.#tail.next = batch;
    this.#tail = batch;
    for (const iterator of this.#iterators) {
      iterator.serve();
    }
    return true;
  }

  #onDrained(): void {
    this.#drained = true;
    const { end } = this.#options.native;
    if (end !== null) {
      this.finish(readFailure(end, this.#options.decoder.pendingBytes));
    }
  }

  #pullForReplies(): void {
    while (this.#options.awaitsReplies() && this.pull()) {
      continue;
    }
    if (this.#stalled && this.#options.awaitsReplies()) {
      this.#options.onBacklogFull();
    }
  }

  #backlog(): number {
    let position = this.#home?.batch.position ?? this.#tail.position;
    for (const iterator of this.#iterators) {
      position = Math.min(position, iterator.position);
    }
    return this.#tail.position - position;
  }

  #awaitTurn(): void {
    if (this.#turnAwaited) {
      return;
    }
    this.#turnAwaited = true;
    setImmediate(() => {
      this.#turnAwaited = false;
      this.#bytesLeftInTurn = BYTES_PER_TURN;
      this.wake();
    });
  }
}

/** Decodes one read. The device's hooks take out every record that is not an event. */
function decodeEvents(decoder: RecordDecoder, bytes: Uint8Array): readonly NetVerdictEvent[] {
  try {
    const records: readonly InfoRecord[] = decoder.push(bytes);
    return records as readonly NetVerdictEvent[];
  } catch (error) {
    if (error instanceof ProtocolError) {
      return NO_EVENTS;
    }
    throw error;
  }
}

function readFailure(
  end: NonNullable<NativeDevice['end']>,
  pendingBytes: number,
): NetVerdictError | undefined {
  if (end.reason === 'error') {
    return statusError(end.status, 'Reading events');
  }
  if (end.reason === 'eof' && pendingBytes > 0) {
    return new ProtocolError(
      `The driver's stream has ended within a record, ${pendingBytes} bytes after its beginning: that record is lost. ` +
        'Close the device and open it again.',
    );
  }
  return undefined;
}
