/** The iterators over a device's stream: of single events, or of the events of one read. */

import type { EventType, NetVerdictEvent } from '../codec/events.js';
import { Queue } from '../base/queue.js';
import {
  NO_EVENTS,
  type Batch,
  type Consumer,
  type EventStream,
  type Place,
} from './event_stream.js';
import type { LossWarner } from './loss_warner.js';

interface Waiter<T> {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (reason: unknown) => void;
}

/** The base of the iterators over single events and over batches. */
abstract class StreamIterator<T> implements Consumer, AsyncIterableIterator<T, undefined> {
  declare protected events: readonly NetVerdictEvent[];
  declare protected index: number;
  readonly #stream: EventStream;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => {
    this.#fail(this.#signal?.reason);
  };
  readonly #waiters = new Queue<Waiter<T>>();
  #batch: Batch | undefined;
  #done = false;
  #failure: { readonly reason: unknown } | undefined;
  #serving = false;
  #seenBatch: Batch | undefined;
  #seenIndex = 0;

  constructor(stream: EventStream, signal: AbortSignal | undefined) {
    this.events = NO_EVENTS;
    this.index = 0;
    this.#stream = stream;
    this.#signal = signal;
  }

  abstract next(): Promise<IteratorResult<T, undefined>>;

  abstract readonly givesQuestions: boolean;

  /** The next item of the current batch. */
  protected abstract takeItem(): T | undefined;

  [Symbol.asyncIterator](): this {
    return this;
  }

  get isWaiting(): boolean {
    return this.#waiters.length > 0;
  }

  get position(): number {
    return this.#batch?.position ?? 0;
  }

  /** Whether a call waits, or one came since the last look. */
  hasMoved(): boolean {
    const isElsewhere = this.#batch !== this.#seenBatch || this.index !== this.#seenIndex;
    this.#seenBatch = this.#batch;
    this.#seenIndex = this.index;
    return isElsewhere || this.isWaiting;
  }

  get isAtEnd(): boolean {
    return this.index >= this.events.length && this.#batch?.next === undefined;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#failure = undefined;
    this.#finish();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** Resolves pending `next()` calls, as far as there are items. */
  serve(): void {
    if (this.#serving) {
      return;
    }
    this.#serving = true;
    try {
      while (this.#waiters.length > 0 && this.#serveFirst()) {
        continue;
      }
    } finally {
      this.#serving = false;
      this.#stream.setWaiting(this, this.isWaiting);
    }
  }

  moveTo(place: Place): void {
    this.#batch = place.batch;
    this.events = place.batch.events;
    this.index = place.index;
  }

  /** Waits for an item, because the current batch has no further one. */
  protected wait(): Promise<IteratorResult<T, undefined>> {
    if (this.#batch === undefined && !this.#done) {
      this.#begin();
    }
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.serve();
    });
  }

  #begin(): void {
    this.moveTo(this.#stream.attach(this));
    if (this.#signal?.aborted === true) {
      this.#fail(this.#signal.reason);
      return;
    }
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Settles the first pending call, or makes progress towards it. Returns false if it must wait. */
  #serveFirst(): boolean {
    const item = this.takeItem();
    if (item !== undefined) {
      this.#waiters.shift()?.resolve({ value: item, done: false });
      return true;
    }
    if (this.#done) {
      this.#settleDone();
      return true;
    }
    if (this.#batch?.next !== undefined) {
      this.moveTo({ batch: this.#batch.next, index: 0 });
      this.#stream.onAdvance();
      return true;
    }
    if (this.#stream.ended) {
      this.#finishAsStream();
      return true;
    }
    return this.#stream.pull() || this.#stream.ended;
  }

  #finishAsStream(): void {
    const { failure } = this.#stream;
    if (failure === undefined) {
      this.#finish();
    } else {
      this.#fail(failure);
    }
  }

  #fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#finish();
  }

  #finish(): void {
    const batch = this.#batch;
    const { index } = this;
    this.#done = true;
    // An ended iterator must not keep later batches alive.
    this.#batch = undefined;
    this.events = NO_EVENTS;
    this.index = 0;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (batch !== undefined) {
      this.#stream.detach(this, { batch, index });
    }
    this.serve();
  }

  /** Only the first pending call after a failure rejects; later ones are done. */
  #settleDone(): void {
    const waiter = this.#waiters.shift();
    if (this.#failure === undefined) {
      waiter?.resolve({ value: undefined, done: true });
      return;
    }
    const { reason } = this.#failure;
    this.#failure = undefined;
    waiter?.reject(reason);
  }
}

/** Iterates single events, of all types or of some. */
export class EventIterator<T extends NetVerdictEvent> extends StreamIterator<T> {
  readonly #types: ReadonlySet<EventType> | undefined;
  readonly #losses: LossWarner;
  readonly givesQuestions: boolean;

  constructor(
    stream: EventStream,
    types: ReadonlySet<EventType> | undefined,
    signal: AbortSignal | undefined,
  ) {
    super(stream, signal);
    this.#types = types;
    this.givesQuestions = types === undefined || types.has('connection');
    this.#losses = stream.losses;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const event = this.takeItem();
    return event === undefined ? this.wait() : Promise.resolve({ value: event, done: false });
  }

  protected takeItem(): T | undefined {
    while (this.index < this.events.length) {
      const event = this.events[this.index++];
      if (event !== undefined && this.#wants(event)) {
        return event as T;
      }
    }
    return undefined;
  }

  #wants(event: NetVerdictEvent): boolean {
    if (this.#types === undefined || this.#types.has(event.type)) {
      return true;
    }
    if (event.type === 'lost') {
      this.#losses.count(event);
    }
    return false;
  }
}

/** Iterates arrays of the events of one read. */
export class BatchIterator extends StreamIterator<readonly NetVerdictEvent[]> {
  readonly givesQuestions = true;

  next(): Promise<IteratorResult<readonly NetVerdictEvent[], undefined>> {
    const batch = this.takeItem();
    return batch === undefined ? this.wait() : Promise.resolve({ value: batch, done: false });
  }

  protected takeItem(): readonly NetVerdictEvent[] | undefined {
    const { events, index } = this;
    if (index >= events.length) {
      return undefined;
    }
    this.index = events.length;
    return index === 0 ? events : events.slice(index);
  }
}
