/**
 * Which image path each process has, and had: an event that is looked at late still shows the path that its process id
 * stood for when it was reported, though the id may since have gone to another process. @internal
 */

/** Paths are forgotten oldest first beyond this many processes, so that their number is bounded whatever comes. */
const MAX_PROCESSES = 65_536;

interface Entry {
  readonly path: string;
  /** The time from which the path holds. */
  readonly since: number;
  /** What the id stood for before. */
  readonly earlier: string | undefined;
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
    this.#entries.set(processId, { path, since: this.#time, earlier: known?.path });
    if (this.#entries.size > MAX_PROCESSES) {
      this.#forgetOldest();
    }
  }

  at(processId: number, time: number): string | undefined {
    const entry = this.#entries.get(processId);
    return entry === undefined || entry.since <= time ? entry?.path : entry.earlier;
  }

  #forgetOldest(): void {
    for (const processId of this.#entries.keys()) {
      this.#entries.delete(processId);
      return;
    }
  }
}
