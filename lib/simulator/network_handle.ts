/** Access to the native side of a simulated network until the simulator is closed. @internal */

import type { NativeNetwork } from '../addon/native.cjs';
import { ClosedError } from '../base/errors.js';

/** A callback of the application. Neither function refers to it strongly. */
export interface KeptCallback<A extends unknown[]> {
  readonly call: (...args: A) => void;
  readonly release: () => void;
}

export class NetworkHandle {
  readonly #native: NativeNetwork;
  readonly #isClosed: () => boolean;
  readonly #kept = new Set<unknown>();

  constructor(native: NativeNetwork, isClosed: () => boolean) {
    this.#native = native;
    this.#isClosed = isClosed;
    Object.assign(native, { kept: this.#kept });
  }

  get isClosed(): boolean {
    return this.#isClosed();
  }

  /**
   * Keeps a callback of the application until it is released. The native side calls it by `call`.
   *
   * The native object itself keeps it, so a callback that refers to the computer does not keep the computer.
   */
  keep<A extends unknown[]>(callback: (...args: A) => void): KeptCallback<A> {
    const weak = new WeakRef(callback);
    const kept = new WeakRef(this.#kept);
    this.#kept.add(callback);
    return {
      call: (...args) => {
        weak.deref()?.(...args);
      },
      release: () => {
        kept.deref()?.delete(weak.deref());
      },
    };
  }

  /** @throws ClosedError */
  get native(): NativeNetwork {
    if (this.isClosed) {
      throw simulatorClosed();
    }
    return this.#native;
  }
}

export function simulatorClosed(): ClosedError {
  return new ClosedError('The simulator is closed. Create another one.');
}
