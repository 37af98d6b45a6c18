/**
 * Collects the records that answer a request, and resolves the request with them.
 *
 * A driver with the protocol extension ends each answer with a ReplyEnd record, so requests may overlap.
 * A driver without it does not mark the end of an answer: requests go one at a time, and a quiet time ends the answer.
 * A quiet time also ends the answer once records were lost, because the ReplyEnd may be among them.
 */

/** An answer without ReplyEnd is complete after this long without a record. */
const QUIET_MS = 100;

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
  /** Counts the sent commands of this kind, from 1; 0 until sent. */
  sequence: bigint;
  timer: NodeJS.Timeout | undefined;
}

export class ReplyCollector<T> {
  readonly #options: ReplyOptions;
  readonly #requests: Request<T>[] = [];
  #sent = 0n;

  constructor(options: ReplyOptions) {
    this.#options = options;
  }

  get waiting(): boolean {
    return this.#requests.length > 0;
  }

  /** Sends a request. An aborted signal rejects it at once, and its answer is discarded. */
  ask(signal?: AbortSignal): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#requests.push({ records: [], resolve, reject, sequence: 0n, timer: undefined });
      if (this.#options.endsReplies || this.#requests.length === 1) {
        this.#send(this.#requests.length - 1);
      }
    });
  }

  /** Adds records to the first answer. Returns false when no request waits. */
  offer(records: readonly T[]): boolean {
    const request = this.#requests[0];
    if (request === undefined) {
      return false;
    }
    for (const record of records) {
      request.records.push(record);
    }
    request.timer?.refresh();
    return true;
  }

  /** Completes the answer to the command with this sequence number, and all answers before it. */
  end(sequence: bigint): void {
    while (this.#requests[0] !== undefined && this.#requests[0].sequence <= sequence) {
      this.#finishFirst();
    }
  }

  /** Ends every waiting answer by a quiet time, because a lost or malformed record may be its ReplyEnd. */
  doubt(): void {
    for (const request of this.#requests) {
      this.#watch(request);
    }
  }

  fail(reason: unknown): void {
    for (const request of this.#requests.splice(0)) {
      clearTimeout(request.timer);
      request.reject(reason);
    }
  }

  #send(index: number): void {
    const request = this.#requests[index];
    if (request === undefined) {
      return;
    }
    try {
      this.#options.send();
    } catch (error) {
      this.#requests.splice(index, 1);
      request.reject(error);
      this.#send(index);
      return;
    }
    request.sequence = ++this.#sent;
    if (!this.#options.endsReplies) {
      this.#watch(request);
    }
  }

  #watch(request: Request<T>): void {
    request.timer ??= setTimeout(() => {
      this.#onQuiet(request);
    }, QUIET_MS);
  }

  #onQuiet(request: Request<T>): void {
    if (this.#requests[0] !== request || !this.#options.isDrained()) {
      request.timer?.refresh();
      return;
    }
    this.#finishFirst();
  }

  #finishFirst(): void {
    const request = this.#requests.shift();
    clearTimeout(request?.timer);
    request?.resolve(request.records);
    if (!this.#options.endsReplies) {
      this.#send(0);
    }
  }
}
