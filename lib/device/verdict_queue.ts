/**
 * Collects the verdicts of one tick into one write, and refuses a second verdict for an id.
 *
 * The write follows the promise jobs of the tick.
 * So a `for await` loop that decides each event still causes one write for all of them.
 */

import { checkDecision, checkId, writeVerdict } from '../codec/commands.js';
import { alreadyDecided } from '../codec/connection_events.js';
import type { VerdictSink } from '../codec/record_view.js';
import type { Verdict } from '../codec/verdicts.js';
import { VerdictLayout, readHighWord, readLowWord } from '../codec/wire.js';

/**
 * The number of consecutive ids remembered: twice the packets that the driver holds by default.
 * The driver itself ignores, and counts, a second verdict for an older id.
 */
const REMEMBERED_IDS = 131_072;
const COMMAND_SIZE = VerdictLayout.byteLength;
const INITIAL_VERDICTS = 1024;
/** A tick with more verdicts than this causes several writes. */
const MAX_QUEUED_VERDICTS = 65_536;
/** The delay before a write that failed for lack of memory is repeated. */
const RETRY_MS = 10;

/** The ids decided last. An id replaces one that differs from it by a multiple of the table's size. */
class DecidedIds {
  readonly #ids = new Uint32Array(2 * REMEMBERED_IDS);

  /** Returns false if the id is already present. */
  add(idLow: number, idHigh: number): boolean {
    const place = 2 * (idLow & (REMEMBERED_IDS - 1));
    if (this.#ids[place] === idLow && this.#ids[place + 1] === idHigh) {
      return false;
    }
    this.#ids[place] = idLow;
    this.#ids[place + 1] = idHigh;
    return true;
  }
}

export class VerdictQueue implements VerdictSink {
  readonly #write: (commands: Uint8Array) => boolean;
  readonly #maxWrite: number;
  readonly #decided = new DecidedIds();
  readonly #scratch = new DataView(new ArrayBuffer(8));
  readonly #flushLater = (): void => {
    this.#scheduled = false;
    this.flush();
  };
  readonly #flushAgain = (): void => {
    this.#retry = undefined;
    this.flush();
  };
  #retry: NodeJS.Timeout | undefined;
  #bytes = new Uint8Array(INITIAL_VERDICTS * COMMAND_SIZE);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #scheduled = false;
  #stopped: (() => Error) | undefined;
  #discarding = false;

  /**
   * `write` writes whole commands without keeping the bytes.
   * It returns false to be called again later, and reports any other failure itself.
   * `maxCommands` is the maximum number of commands in one write.
   */
  constructor(write: (commands: Uint8Array) => boolean, maxCommands: number) {
    this.#write = write;
    const atOnce = Math.max(1, Math.min(maxCommands, MAX_QUEUED_VERDICTS));
    this.#maxWrite = atOnce * COMMAND_SIZE;
  }

  set(id: bigint, verdict: Verdict): void {
    checkId(id);
    checkDecision(verdict);
    this.#scratch.setBigUint64(0, id, true);
    this.decide(readLowWord(this.#scratch, 0), readHighWord(this.#scratch, 0), verdict);
  }

  decide(idLow: number, idHigh: number, verdict: Verdict): void {
    if (this.#stopped !== undefined) {
      throw this.#stopped();
    }
    if (!this.#decided.add(idLow, idHigh)) {
      throw alreadyDecided((BigInt(idHigh) << 32n) | BigInt(idLow));
    }
    if (this.#discarding) {
      return;
    }
    this.#append(idLow, idHigh, verdict);
    if (!this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(this.#flushLater);
    }
  }

  /** Writes the queued verdicts now. Returns false if some are left, which are written again a little later. */
  flush(): boolean {
    let written = 0;
    while (written < this.#length) {
      const end = Math.min(written + this.#maxWrite, this.#length);
      if (!this.#write(this.#bytes.subarray(written, end))) {
        this.#bytes.copyWithin(0, written, this.#length);
        this.#length -= written;
        if (this.#retry === undefined) {
          this.#retry = setTimeout(this.#flushAgain, RETRY_MS).unref();
        }
        return false;
      }
      written = end;
    }
    this.#length = 0;
    return true;
  }

  /** Discards queued and future verdicts, which are still checked: nothing waits for them. */
  discard(): void {
    this.#length = 0;
    this.#discarding = true;
  }

  /** Discards queued verdicts and refuses future ones. */
  stop(makeError: () => Error): void {
    this.#length = 0;
    this.#stopped = makeError;
  }

  #append(idLow: number, idHigh: number, verdict: Verdict): void {
    if (this.#length === this.#bytes.length) {
      this.#makeRoom();
    }
    const at = this.#length;
    writeVerdict(this.#view, at, idLow, idHigh, verdict);
    this.#length = at + COMMAND_SIZE;
  }

  #makeRoom(): void {
    if (this.#length >= MAX_QUEUED_VERDICTS * COMMAND_SIZE && this.flush()) {
      return;
    }
    const grown = new Uint8Array(2 * this.#bytes.length);
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
