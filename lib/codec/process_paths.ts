/**
 * The image path of each process id, now and before.
 *
 * An event that is read late still shows the path that its process id had when the event was reported.
 * Windows reuses process ids: each keeps its current path and the one before, and older ones are undefined.
 * @internal
 */

import { PATH_CHARACTER_SIZE } from './wire.js';

/** Beyond this many bytes the paths that were remembered first are forgotten. */
const MAX_BYTES = 16 * 1024 * 1024;
/** About what a process takes besides its paths. */
const ENTRY_BYTES = 200;

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
  #bytes = 0;

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
    this.#forget(processId);
    const earlier = known && { path: known.path, since: known.since };
    const entry = { path, since: this.#time, earlier };
    this.#entries.set(processId, entry);
    this.#bytes += bytesOf(entry);
    this.#forgetOldest();
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
      if (this.#bytes <= MAX_BYTES) {
        return;
      }
      this.#forget(processId);
    }
  }

  #forget(processId: number): void {
    const entry = this.#entries.get(processId);
    if (entry !== undefined) {
      this.#entries.delete(processId);
      this.#bytes -= bytesOf(entry);
    }
  }
}

function bytesOf({ path, earlier }: Entry): number {
  return ENTRY_BYTES + PATH_CHARACTER_SIZE * (path.length + (earlier?.path.length ?? 0));
}
