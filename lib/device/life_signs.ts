/**
 * Signs of life for the driver. Without them its fail policy decides: a program that hangs must not hang the computer.
 *
 * While questions wait, the driver is told several times within `stallTimeoutMs` that this client lives.
 * It is told so only while something decides: while an iterator over questions moves, or has nothing to give.
 * Nothing is told, and no timer runs, while no question waits and everything was read.
 */

const SIGNS_PER_TIMEOUT = 4;

/** How the iterators over questions get on. */
export type Pace =
  /** One of them was asked for an event since the last look, or has none to give. */
  | 'moving'
  /** Each of them has events that nobody asks for. */
  | 'waiting'
  /** There was one, and it has ended. */
  | 'ended'
  /** There was none. */
  | 'none';

/** What the signs of life need of a device. */
export interface Living {
  /** Looks how the iterators got on since the last look. */
  readonly pace: () => Pace;
  /** Whether the driver may have records that were not read. */
  readonly hasUnread: () => boolean;
  /** Tells the driver that this client lives. */
  readonly tell: () => void;
  /** The number of questions that wait in the driver, and how often it found this client stalled. */
  readonly ask: () => { readonly waiting: bigint; readonly stalls: bigint };
}

export class LifeSigns {
  readonly #living: Living;
  readonly #timeoutMs: number;
  readonly #intervalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #lookedAt = 0;
  #stalls: bigint;
  /** The driver found this client stalled, and has not been told that it lives. */
  #isStalled = false;
  #lookAwaited = false;
  #stopped = false;

  /** `timeoutMs`: the driver's stall timeout, over 0. */
  constructor(timeoutMs: number, living: Living) {
    this.#timeoutMs = timeoutMs;
    this.#intervalMs = timeoutMs / SIGNS_PER_TIMEOUT;
    this.#living = living;
    this.#stalls = living.ask().stalls;
  }

  /** Called when there is something to read: a question may wait. */
  onReadable(): void {
    if (this.#timer !== undefined || this.#stopped) {
      return;
    }
    this.#lookedAt = performance.now();
    // The timer must not keep a forgotten device.
    const weak = new WeakRef(this);
    const timer = setInterval(() => {
      const signs = weak.deref();
      if (signs === undefined) {
        clearInterval(timer);
      } else {
        signs.look();
      }
    }, this.#intervalMs);
    this.#timer = timer.unref();
  }

  /** Called when the driver reports that its fail policy has decided for a stalled client. */
  onStall(): void {
    this.#isStalled = true;
    if (!this.#lookAwaited) {
      this.#lookAwaited = true;
      setImmediate(() => {
        this.#lookAwaited = false;
        this.look();
      });
    }
  }

  /**
   * Tells the driver that this client lives, if it does and if it matters. Warns of a stall.
   * Returns the milliseconds until it must be told again; undefined if that does not matter now.
   */
  look(): number | undefined {
    if (this.#stopped) {
      return undefined;
    }
    const now = performance.now();
    const lateMs = this.#timer === undefined ? 0 : now - this.#lookedAt - this.#intervalMs;
    this.#lookedAt = now;
    const { waiting, stalls } = this.#living.ask();
    const pace = this.#living.pace();
    if (stalls > this.#stalls) {
      this.#stalls = stalls;
      this.#isStalled = true;
      this.#warn(pace, lateMs);
    }
    const tells = pace === 'moving' && (waiting > 0n || this.#isStalled);
    if (tells) {
      this.#isStalled = false;
      this.#living.tell();
    }
    if (waiting === 0n && !this.#isStalled && !this.#living.hasUnread()) {
      this.#endTimer();
    }
    return tells ? this.#intervalMs : undefined;
  }

  stop(): void {
    this.#stopped = true;
    this.#endTimer();
  }

  #endTimer(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #warn(pace: Pace, lateMs: number): void {
    process.emitWarning(
      `Connections waited ${this.#timeoutMs} ms for this program, so the driver's fail policy decides on them: ` +
        (lateMs > this.#timeoutMs / 2 ? blocked(lateMs) : CAUSES[pace]),
      { code: 'NETVERDICT_CLIENT_STALLED' },
    );
  }
}

const CAUSES: Record<Pace, string> = {
  waiting:
    'nobody asks the iterator for the next event. Do not await an answer within the loop: keep the event, go on, and ' +
    'give its verdict later. End an iterator that you do not read by return().',
  ended:
    'the loop over the events has ended, by an error or by a break. Catch errors within the loop, or close the device.',
  none: 'nothing iterates the events of the device. Iterate them, or close the device.',
  moving: 'the program was too slow, or the computer slept.',
};

const blocked = (lateMs: number): string =>
  `the event loop was blocked for ${Math.round(lateMs)} ms. Move long work to a worker thread.`;
