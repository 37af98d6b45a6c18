/**
 * The native side's weak reference to a device's stream, as a callback.
 *
 * It lets a forgotten device be garbage-collected, and so closed.
 * The reference is strong only while something waits for the callback.
 */

interface Readable {
  onReadable(): void;
}

export class ReadableAnchor {
  #weak: WeakRef<Readable> | undefined;
  #held: Readable | undefined;

  readonly onReadable = (): void => {
    this.#weak?.deref()?.onReadable();
  };

  attach(stream: Readable): void {
    this.#weak = new WeakRef(stream);
  }

  hold(stream: Readable): void {
    this.#held = stream;
  }

  release(): void {
    this.#held = undefined;
  }

  /** Whether something waits for the callback. */
  get isHolding(): boolean {
    return this.#held !== undefined;
  }
}
