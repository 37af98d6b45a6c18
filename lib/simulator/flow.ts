/** The flows and listening sockets of a simulated computer. */

import type { NativeNetwork, NativeOutcome, OnNativeOutcome } from '../addon/native.cjs';
import { bytesSchema, check } from '../base/checks.js';
import { formatAddress } from '../codec/addresses.js';
import { HeldPromise, rejecting } from './held_promise.js';
import type { NetworkHandle } from './network_handle.js';
import type { Outcome } from './network_options.js';

/** A flow of a simulated computer: a connection, or a socket's traffic with one remote end. */
export class Flow {
  /** The outcome of its first packet; `'dropped'` if the simulator is closed first. It never rejects. */
  readonly outcome: Promise<Outcome>;
  readonly #handle: NetworkHandle;
  readonly #id: number;

  /** @internal */
  constructor(
    handle: NetworkHandle,
    start: (native: NativeNetwork, onOutcome: OnNativeOutcome) => number,
  ) {
    const { outcome, settle } = newOutcome();
    this.outcome = HeldPromise.of(handle, outcome);
    this.#handle = handle;
    this.#id = start(handle.native, settle);
  }

  /**
   * Sends bytes from the application. Resolves with their outcome.
   *
   * Rejects with a {@link ClosedError} when the simulator is closed.
   *
   * @throws {@link InvalidArgumentError} at once when `bytes` is not a Uint8Array.
   */
  send(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of send()');
    return outcomeOf(this.#handle, (onOutcome) => {
      this.#handle.native.send(this.#id, payload, onOutcome);
    });
  }

  /**
   * Sends bytes from the remote end. Resolves with their outcome.
   *
   * The remote end of a redirected connection is the resolver or tunnel.
   * Rejects with a {@link ClosedError} when the simulator is closed.
   *
   * @throws {@link InvalidArgumentError} at once when `bytes` is not a Uint8Array.
   */
  receive(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of receive()');
    return outcomeOf(this.#handle, (onOutcome) => {
      this.#handle.native.receive(this.#id, payload, onOutcome);
    });
  }

  /** Closes the application's socket. Has no effect on a closed socket or a closed simulator. */
  close(): void {
    if (!this.#handle.isClosed) {
      this.#handle.native.closeFlow(this.#id);
    }
  }
}

/** A listening socket of a simulated computer. */
export class Listener {
  readonly #handle: NetworkHandle;
  readonly #id: number;

  /** @internal */
  constructor(handle: NetworkHandle, id: number) {
    this.#handle = handle;
    this.#id = id;
  }

  /** Stops listening. Has no effect on a closed listener or a closed simulator. */
  close(): void {
    if (!this.#handle.isClosed) {
      this.#handle.native.closeListener(this.#id);
    }
  }
}

/** @internal Calls `start`. Resolves with the outcome that it reports. */
export function outcomeOf(
  handle: NetworkHandle,
  start: (onOutcome: OnNativeOutcome) => void,
): Promise<Outcome> {
  const { outcome, settle } = newOutcome();
  return rejecting(() => {
    start(settle);
    return HeldPromise.of(handle, outcome);
  });
}

/** Refers to nothing but the promise: the native side keeps `settle`. */
function newOutcome(): { readonly outcome: Promise<Outcome>; readonly settle: OnNativeOutcome } {
  let settle: OnNativeOutcome = () => undefined;
  const outcome = new Promise<Outcome>((resolve) => {
    settle = (given) => {
      resolve(readOutcome(given));
    };
  });
  return { outcome, settle };
}

function readOutcome({ kind, address, port }: NativeOutcome): Outcome {
  if (kind !== 'redirected') {
    return kind;
  }
  return {
    redirectedTo: { address: formatAddress(address ?? new Uint8Array(4)), port: port ?? 0 },
  };
}
