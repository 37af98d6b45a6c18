/**
 * A promise of a simulated computer. While somebody awaits it, it keeps the computer from being collected.
 *
 * A promise that nobody awaits keeps nothing: a forgotten computer is collected although flows wait on it.
 * @internal
 */

import type { NetworkHandle } from './network_handle.js';

/** The promises that are awaited, with their computers. */
const awaited = new Map<object, NetworkHandle>();

/** Calls `work`. What it throws rejects the promise. */
export function rejecting<T>(work: () => Promise<T>): Promise<T> {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }
}

export class HeldPromise<T> extends Promise<T> {
  /** Weak, because the native side keeps every promise until it is settled. */
  #computer: WeakRef<NetworkHandle> | undefined;

  /** The promises of `then()` are plain ones. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  /** Settles as `source` does, which must not refer to the computer. */
  static of<T>(computer: NetworkHandle, source: Promise<T>): Promise<T> {
    const held = new HeldPromise<T>((resolve, reject) => {
      source.then(resolve, reject);
    });
    held.#computer = new WeakRef(computer);
    const release = (): void => {
      held.#computer = undefined;
      awaited.delete(held);
    };
    source.then(release, release);
    return held;
  }

  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const computer = this.#computer?.deref();
    if (computer !== undefined) {
      awaited.set(this, computer);
    }
    return super.then(onFulfilled, onRejected);
  }
}
