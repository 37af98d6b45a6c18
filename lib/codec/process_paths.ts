/**
 * The image path of each process id, now and before.
 *
 * An event that is read late still shows the path that its process id had when the event was reported.
 * Windows reuses process ids: each keeps its current path and the one before, and older ones are undefined.
 * @internal
 */

/** Bounds memory: beyond this many processes the oldest path is forgotten. */
const MAX_PROCESSES = 65_536;

interface Holding {
  readonly path: string;
  /** The time at which the id got this path. */
  readonly since: number;
}

interface Entry extends Holding {
  /** The id's path before this one. */
  readonly earlier: Holding | undefined;
}

export class ProcessPaths {
  readonly #entries = new Map<number, Entry>();
  #time = 0;

  /** Increases with each change. Pass it to `at` to see the paths as they are now. */
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
