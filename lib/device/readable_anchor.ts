/**
 * What the native side holds of a device: a callback that reaches the stream without keeping it alive, so that a
 * forgotten device can be collected, and so closed; except while somebody waits to be woken by it.
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

  /** Whether somebody waits. */
  get isHolding(): boolean {
    return this.#held !== undefined;
  }
}
