/** Access to the native side of a simulated network until the simulator is closed. @internal */

import type { NativeNetwork } from '../addon/native.cjs';
import { ClosedError } from '../base/errors.js';

export class NetworkHandle {
  readonly #native: NativeNetwork;
  readonly #isClosed: () => boolean;

  constructor(native: NativeNetwork, isClosed: () => boolean) {
    this.#native = native;
    this.#isClosed = isClosed;
  }

  get isClosed(): boolean {
    return this.#isClosed();
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
