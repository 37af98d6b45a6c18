/**
 * Collects the verdicts of one tick into one write, and knows which ids have theirs.
 *
 * The write happens once the promise jobs of the tick are done, so that a `for await` loop that decides every event it
 * is given still writes once for all of them.
 */

import { checkDecision, checkId, writeVerdict } from '../codec/commands.js';
import { alreadyDecided } from '../codec/connection_events.js';
import type { VerdictSink } from '../codec/record_view.js';
import type { Verdict } from '../codec/verdicts.js';
import { VerdictLayout, readHighWord, readLowWord } from '../codec/wire.js';

/**
 * At least so many consecutive ids are remembered: twice as many as the driver holds packets by default. The driver
 * itself ignores and counts a second verdict for an older one.
 */
const REMEMBERED_IDS = 131_072;
const COMMAND_SIZE = VerdictLayout.byteLength;
const INITIAL_VERDICTS = 1024;
/** A tick that decides more than this writes more than once. */
const MAX_QUEUED_VERDICTS = 65_536;
/** After which a write that there was no memory for is tried again. */
const RETRY_MS = 10;

/** The ids decided last: each has one place, which only an id a multiple of the size away takes over. */
class DecidedIds {
  readonly #ids = new Uint32Array(2 * REMEMBERED_IDS);

  /** Returns false when the id is there already. */
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
   * @param write - writes whole commands and does not keep the bytes; false: not now, but later. Any other failure it
   *   reports itself
   * @param maxCommands - how many commands the driver takes in one write
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

  /** Writes what waits, now. Whether all of it was; the rest is tried again a little later. */
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

  /** From now on verdicts are checked and forgotten: there is nobody left who waits for them. */
  discard(): void {
    this.#length = 0;
    this.#discarding = true;
  }

  /** From now on verdicts are refused, and those that could not be written are forgotten. */
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
