/**
 * Collects the records that answer a request, and resolves the request with them.
 *
 * A driver with the protocol extension ends each answer with a ReplyEnd record, so requests may overlap.
 * A driver without it does not mark the end of an answer: requests go one at a time, and a quiet time ends the answer.
 * A quiet time also ends the answer once records were lost, because the ReplyEnd may be among them.
 */

import { Queue } from '../base/queue.js';

/** An answer without ReplyEnd is complete after this long without a record. */
const QUIET_MS = 100;
/** It is complete after this long in any case, because a busy driver may never be quiet. */
const MAX_WAIT_MS = 5000;

export interface ReplyOptions {
  /** Sends the request. An error that it throws rejects the answer. */
  readonly send: () => void;
  /** Whether the driver ends its answers with ReplyEnd records. */
  readonly endsReplies: boolean;
  /** Whether every read that the driver has completed was decoded. */
  readonly isDrained: () => boolean;
}

interface Request<T> {
  readonly records: T[];
  readonly resolve: (records: T[]) => void;
  readonly reject: (reason: unknown) => void;
}

export class ReplyCollector<T> {
  readonly #options: ReplyOptions;
  /** The requests that wait for their answers. */
  readonly #sent = new Queue<Request<T>>();
  /** The requests that wait for the answer to the sent one, if answers have no ReplyEnd. */
  readonly #unsent = new Queue<Request<T>>();
  /** Counts the answered commands of this kind. */
  #answered = 0n;
  /** The number of requests, from the first, whose answers end with a quiet time. */
  #doubted = 0;
  #timer: NodeJS.Timeout | undefined;
  #watchedSince = 0;

  constructor(options: ReplyOptions) {
    this.#options = options;
  }

  get waiting(): boolean {
    return this.#sent.length > 0;
  }

  /** Sends a request. An aborted signal rejects it at once, and its answer is discarded. */
  ask(signal?: AbortSignal): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#unsent.push({ records: [], resolve, reject });
      this.#sendNext();
    });
  }

  /** Adds records to the first answer. Returns false when no request waits. */
  offer(records: readonly T[]): boolean {
    const request = this.#sent.first;
    if (request === undefined) {
      return false;
    }
    for (const record of records) {
      request.records.push(record);
    }
    if (!this.#isLate()) {
      this.#timer?.refresh();
    }
    return true;
  }

  /** Completes the answer to the command with this sequence number, from 1, and all answers before it. */
  end(sequence: bigint): void {
    while (this.waiting && this.#answered < sequence) {
      this.#finishFirst();
    }
  }

  /** Ends every waiting answer by a quiet time, because a lost or malformed record may be its ReplyEnd. */
  doubt(): void {
    this.#doubted = this.#sent.length;
    this.#watch();
  }

  fail(reason: unknown): void {
    for (const queue of [this.#sent, this.#unsent]) {
      while (queue.length > 0) {
        this.#answered += queue === this.#sent ? 1n : 0n;
        queue.shift()?.reject(reason);
      }
    }
    this.#doubted = 0;
    this.#unwatch();
  }

  #sendNext(): void {
    while (this.#unsent.length > 0 && (this.#options.endsReplies || !this.waiting)) {
      const request = this.#unsent.shift();
      try {
        this.#options.send();
      } catch (error) {
        request?.reject(error);
        continue;
      }
      if (request !== undefined) {
        this.#sent.push(request);
      }
      if (!this.#options.endsReplies) {
        this.doubt();
      }
    }
  }

  #watch(): void {
    if (this.#doubted > 0 && this.#timer === undefined) {
      this.#watchedSince = performance.now();
      this.#timer = setTimeout(() => {
        this.#onQuiet();
      }, QUIET_MS);
    }
  }

  #unwatch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #isLate(): boolean {
    return performance.now() - this.#watchedSince >= MAX_WAIT_MS;
  }

  #onQuiet(): void {
    if (!this.#options.isDrained() && !this.#isLate()) {
      this.#timer?.refresh();
      return;
    }
    this.#unwatch();
    for (let count = this.#doubted; count > 0; count--) {
      this.#finishFirst();
    }
    this.#watch();
  }

  #finishFirst(): void {
    const request = this.#sent.shift();
    if (request === undefined) {
      return;
    }
    this.#answered += 1n;
    this.#doubted = Math.max(0, this.#doubted - 1);
    if (this.#doubted === 0) {
      this.#unwatch();
    }
    request.resolve(request.records);
    this.#sendNext();
  }
}
