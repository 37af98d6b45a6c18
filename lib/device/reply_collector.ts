/**
 * Gives the records that answer a command to whoever asked.
 *
 * A driver with the protocol extension ends each answer by a ReplyEnd record, so any number of questions may be on
 * their way. A driver without it does not say where an answer ends: then one question is asked at a time, and its
 * answer is over after a quiet time. The same goes once records were lost, since the ReplyEnd may be among them.
 */

/** How long no record of an answer comes before the answer counts as complete. */
const QUIET_MS = 100;

export interface ReplyOptions {
  /** Asks the driver; what it throws rejects the answer. */
  readonly send: () => void;
  /** Whether the driver ends its answers by ReplyEnd records. */
  readonly endsReplies: boolean;
  /** Whether everything that the driver has sent so far was looked at. */
  readonly isDrained: () => boolean;
}

interface Question<T> {
  readonly records: T[];
  readonly resolve: (records: T[]) => void;
  readonly reject: (reason: unknown) => void;
  /** The how-manieth command of its kind it is, once sent. */
  sequence: bigint;
  timer: NodeJS.Timeout | undefined;
}

export class ReplyCollector<T> {
  readonly #options: ReplyOptions;
  readonly #questions: Question<T>[] = [];
  #sent = 0n;

  constructor(options: ReplyOptions) {
    this.#options = options;
  }

  get waiting(): boolean {
    return this.#questions.length > 0;
  }

  /** An aborted signal rejects at once; what the driver answers then goes nowhere. */
  ask(signal?: AbortSignal): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#questions.push({ records: [], resolve, reject, sequence: 0n, timer: undefined });
      if (this.#options.endsReplies || this.#questions.length === 1) {
        this.#send(this.#questions.length - 1);
      }
    });
  }

  /** Offers records; false when nobody waits for it. */
  offer(records: readonly T[]): boolean {
    const question = this.#questions[0];
    if (question === undefined) {
      return false;
    }
    for (const record of records) {
      question.records.push(record);
    }
    question.timer?.refresh();
    return true;
  }

  /** The answer to the sequence-th command is complete, and so are all before it. */
  end(sequence: bigint): void {
    while (this.#questions[0] !== undefined && this.#questions[0].sequence <= sequence) {
      this.#finishFirst();
    }
  }

  /** Records were lost or malformed, perhaps the one that ends an answer. */
  doubt(): void {
    for (const question of this.#questions) {
      this.#watch(question);
    }
  }

  fail(reason: unknown): void {
    for (const question of this.#questions.splice(0)) {
      clearTimeout(question.timer);
      question.reject(reason);
    }
  }

  #send(index: number): void {
    const question = this.#questions[index];
    if (question === undefined) {
      return;
    }
    try {
      this.#options.send();
    } catch (error) {
      this.#questions.splice(index, 1);
      question.reject(error);
      this.#send(index);
      return;
    }
    question.sequence = ++this.#sent;
    if (!this.#options.endsReplies) {
      this.#watch(question);
    }
  }

  #watch(question: Question<T>): void {
    question.timer ??= setTimeout(() => {
      this.#onQuiet(question);
    }, QUIET_MS);
  }

  #onQuiet(question: Question<T>): void {
    if (this.#questions[0] !== question || !this.#options.isDrained()) {
      question.timer?.refresh();
      return;
    }
    this.#finishFirst();
  }

  #finishFirst(): void {
    const question = this.#questions.shift();
    clearTimeout(question?.timer);
    question?.resolve(question.records);
    if (!this.#options.endsReplies) {
      this.#send(0);
    }
  }
}
