/**
 * One stream of events per device, and the iterators over it.
 *
 * Reads are decoded once, into a linked list of batches; each iterator is a place in that list, so that any number of
 * them see every event, each at its own pace, and what all have passed is collected. The first iterator begins with the
 * oldest event that nobody has seen, a further one with the next event read. Nothing is read ahead of need, and reading
 * pauses once the slowest iterator is too far behind, so memory is bounded: the driver queues, and counts what is lost.
 *
 * An application that always has an event at hand would never let the event loop turn; so after a number of bytes the
 * stream itself waits for the next turn.
 */

import type { NativeDevice } from '../addon/native.cjs';
import { ProtocolError, type NetVerdictError } from '../base/errors.js';
import type { InfoRecord, NetVerdictEvent } from '../codec/events.js';
import type { RecordDecoder } from '../codec/record_decoder.js';
import type { ReadableAnchor } from './readable_anchor.js';
import { statusError } from './status.js';

const BYTES_PER_TURN = 512 * 1024;

/** What one read brought. */
export interface Batch {
  readonly events: readonly NetVerdictEvent[];
  /** How many bytes of the stream end with this batch. */
  readonly position: number;
  next: Batch | undefined;
}

/** Where an iterator is: before the `index`-th event of a batch. */
export interface Place {
  readonly batch: Batch;
  readonly index: number;
}

/** An iterator, as the stream sees it. */
export interface Consumer {
  readonly isWaiting: boolean;
  readonly position: number;
  serve(): void;
  moveTo(place: Place): void;
}

export interface StreamOptions {
  readonly native: Pick<NativeDevice, 'take' | 'end'>;
  readonly decoder: RecordDecoder;
  readonly anchor: ReadableAnchor;
  /** Reading pauses while so many bytes wait for the slowest iterator. */
  readonly backlogLimit: number;
  /** Whether records are awaited that never reach an iterator. */
  readonly awaitsReplies: () => boolean;
  /** The awaited records lie behind more than may be kept: the iterators may wait for these very records. */
  readonly onBacklogFull: () => void;
  /** Nothing comes any more, because of `failure` or because the driver has shut down. */
  readonly onEnd: (failure: unknown) => void;
}

export const NO_EVENTS: readonly NetVerdictEvent[] = [];

export class EventStream {
  readonly #options: StreamOptions;
  readonly #iterators = new Set<Consumer>();
  #tail: Batch = { events: NO_EVENTS, position: 0, next: undefined };
  /** Where the next iterator begins, while there is none: nothing else may keep batches alive. */
  #home: Place | undefined = { batch: this.#tail, index: 0 };
  #end: { readonly failure: unknown } | undefined;
  #bytesLeftInTurn = BYTES_PER_TURN;
  /** Everything was taken: the native side tells when there is more. */
  #drained = false;
  #stalled = false;
  #turnAwaited = false;

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

  /** The native side has something, or has ended. */
  onReadable(): void {
    this.#drained = false;
    this.#bytesLeftInTurn = BYTES_PER_TURN;
    this.wake();
  }

  /** Serves whoever waits, as far as there is something to read. */
  wake(): void {
    for (const iterator of this.#iterators) {
      iterator.serve();
    }
    this.#pullForReplies();
    this.updateHold();
  }

  /** Decodes the next read; false when there is none now. Then whoever waits is served later. */
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
      const bytes = this.#options.native.take();
      if (bytes === null) {
        this.#onDrained();
        return false;
      }
      this.#bytesLeftInTurn -= bytes.length;
      if (this.#ingest(bytes)) {
        return true;
      }
    }
    return false;
  }

  /** Nothing more comes; what was read is still given out. */
  finish(failure?: unknown): void {
    if (this.#end === undefined) {
      this.#end = { failure };
      this.#options.onEnd(failure);
      this.wake();
    }
  }

  /** Ends every iterator now; what it has not seen is forgotten. */
  stop(failure?: unknown): void {
    this.#end ??= { failure };
    this.#tail = { events: NO_EVENTS, position: this.#tail.position, next: undefined };
    const place = { batch: this.#tail, index: 0 };
    if (this.#home !== undefined) {
      this.#home = place;
    }
    for (const iterator of this.#iterators) {
      iterator.moveTo(place);
    }
    this.wake();
  }

  attach(iterator: Consumer): Place {
    const place = this.#home ?? { batch: this.#tail, index: this.#tail.events.length };
    this.#home = undefined;
    this.#iterators.add(iterator);
    return place;
  }

  detach(iterator: Consumer, place: Place): void {
    if (this.#iterators.delete(iterator) && this.#iterators.size === 0) {
      this.#home = place;
    }
    this.onAdvance();
    this.updateHold();
  }

  /** An iterator has gone on to another batch, or is over: perhaps reading may go on too. */
  onAdvance(): void {
    if (this.#stalled) {
      this.#stalled = false;
      this.#awaitTurn();
    }
  }

  /** Whoever waits on this stream must be woken, even if nobody else refers to it. */
  updateHold(): void {
    const isAwaited =
      this.#end === undefined &&
      (this.#options.awaitsReplies() ||
        [...this.#iterators].some((iterator) => iterator.isWaiting));
    if (isAwaited) {
      this.#options.anchor.hold(this);
    } else {
      this.#options.anchor.release();
    }
  }

  #ingest(bytes: Uint8Array): boolean {
    const { decoder } = this.#options;
    const events = decodeEvents(decoder, bytes);
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

/** A device's decoder keeps to itself, by its hooks, whatever is not an event. */
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
