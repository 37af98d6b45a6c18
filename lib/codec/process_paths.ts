/**
 * Which image path each process has, and had before: an event that is looked at late still shows the path that its
 * process id stood for when it was reported, though the id may since have gone to another process; and none at all once
 * it has gone on to a third. @internal
 */

/** Paths are forgotten oldest first beyond this many processes, so that their number is bounded whatever comes. */
const MAX_PROCESSES = 65_536;

interface Holding {
  readonly path: string;
  /** The time from which the path holds. */
  readonly since: number;
}

interface Entry extends Holding {
  /** What the id stood for before. */
  readonly earlier: Holding | undefined;
}

export class ProcessPaths {
  readonly #entries = new Map<number, Entry>();
  #time = 0;

  /** Grows with each change: what a reader has to remember to see the paths as they are now. */
  get time(): number {
    return this.#time;
  }

  remember(processId: number, path: string): void {
    const known = this.#entries.get(processId);
    if (known?.path === path) {
      return;
    }
    this.#time += 1;
    this.#entries.delete(processId);
    const earlier = known && { path: known.path, since: known.since };
    this.#entries.set(processId, { path, since: this.#time, earlier });
    if (this.#entries.size > MAX_PROCESSES) {
      this.#forgetOldest();
    }
  }

  at(processId: number, time: number): string | undefined {
    const entry = this.#entries.get(processId);
    if (entry === undefined || entry.since <= time) {
      return entry?.path;
    }
    const { earlier } = entry;
    return earlier !== undefined && earlier.since <= time ? earlier.path : undefined;
  }

  #forgetOldest(): void {
    for (const processId of this.#entries.keys()) {
      this.#entries.delete(processId);
      return;
    }
  }
}
