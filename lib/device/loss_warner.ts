/** Process warnings about lost records that iterators skip. A flood of losses makes one warning a second. */

import type { LostEvent } from '../codec/events.js';
import { cureOf, type LossReason } from '../codec/losses.js';

const WARNING_INTERVAL_MS = 1000;

interface Sum {
  count: bigint;
  /** The process of all these losses; 0 or undefined for several or none. */
  processId: number | undefined;
}

export class LossWarner {
  readonly #counted = new WeakSet<LostEvent>();
  readonly #sums = new Map<LossReason, Sum>();
  #timer: NodeJS.Timeout | undefined;

  /** Warns of the losses, now or together with others within a second. Several iterators may skip one event. */
  count(event: LostEvent): void {
    if (this.#counted.has(event)) {
      return;
    }
    this.#counted.add(event);
    this.#add(event);
    if (this.#timer === undefined) {
      this.#warn();
    }
  }

  /** Warns now of what is counted. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#onTime();
  }

  #add({ reason, count, processId }: LostEvent): void {
    const sum = this.#sums.get(reason);
    if (sum === undefined) {
      this.#sums.set(reason, { count, processId });
      return;
    }
    sum.count += count;
    sum.processId = sum.processId === processId ? processId : 0;
  }

  #warn(): void {
    const losses = [...this.#sums].map(([reason, sum]) => lossText(reason, sum)).join(', ');
    const cures = [...this.#sums.keys()].map(cureOf).join(' ');
    this.#sums.clear();
    this.#timer = setTimeout(() => {
      this.#onTime();
    }, WARNING_INTERVAL_MS).unref();
    process.emitWarning(
      `The driver lost ${losses}, and an iterator skipped the 'lost' events. ${cures} ` +
        "Iterate the type 'lost' to see each loss.",
      { code: 'NETVERDICT_EVENTS_LOST' },
    );
  }

  #onTime(): void {
    this.#timer = undefined;
    if (this.#sums.size > 0) {
      this.#warn();
    }
  }
}

function lossText(reason: LossReason, { count, processId }: Sum): string {
  const owner = processId === undefined || processId === 0 ? '' : `, process ${processId}`;
  return `${count} records (${reason}${owner})`;
}
