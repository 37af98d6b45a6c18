/** Connections and listening sockets on a simulated computer. */

import type { NativeNetwork, NativeOutcome, OnNativeOutcome } from '../addon/native.cjs';
import { bytesSchema, check } from '../base/checks.js';
import { formatAddress } from '../codec/addresses.js';
import type { NetworkHandle } from './network_handle.js';
import type { Outcome } from './network_options.js';

/** A connection, or a socket's traffic with one remote end, on a simulated computer. */
export class Flow {
  /** What became of its first packet; `'dropped'` where the simulator is closed before that. It never rejects. */
  readonly outcome: Promise<Outcome>;
  readonly #handle: NetworkHandle;
  readonly #id: number;

  /** @internal */
  constructor(
    handle: NetworkHandle,
    start: (native: NativeNetwork, onOutcome: OnNativeOutcome) => number,
  ) {
    let settle: OnNativeOutcome = () => undefined;
    this.outcome = new Promise((resolve) => {
      settle = (outcome) => {
        resolve(readOutcome(outcome));
      };
    });
    this.#handle = handle;
    this.#id = start(handle.native, settle);
  }

  /**
   * The application sends; resolves with what became of it.
   *
   * @throws {@link InvalidArgumentError} at once. Rejects with a {@link ClosedError} when the simulator is closed.
   */
  send(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of send()');
    return outcomeOf((onOutcome) => {
      this.#handle.native.send(this.#id, payload, onOutcome);
    });
  }

  /**
   * The remote end sends; resolves with what became of it. Of a redirected connection it is the resolver or tunnel that
   * sends.
   *
   * @throws {@link InvalidArgumentError} at once. Rejects with a {@link ClosedError} when the simulator is closed.
   */
  receive(bytes: Uint8Array): Promise<Outcome> {
    const payload = check(bytesSchema, bytes, 'The bytes of receive()');
    return outcomeOf((onOutcome) => {
      this.#handle.native.receive(this.#id, payload, onOutcome);
    });
  }

  /** The application closes its socket. Closing again, or after the simulator, does nothing more. */
  close(): void {
    if (!this.#handle.isClosed) {
      this.#handle.native.closeFlow(this.#id);
    }
  }
}

/** A listening socket on a simulated computer. */
export class Listener {
  readonly #handle: NetworkHandle;
  readonly #id: number;

  /** @internal */
  constructor(handle: NetworkHandle, id: number) {
    this.#handle = handle;
    this.#id = id;
  }

  /** Stops listening. Closing again, or after the simulator, does nothing more. */
  close(): void {
    if (!this.#handle.isClosed) {
      this.#handle.native.closeListener(this.#id);
    }
  }
}

/** @internal What becomes of what `start` sets off. */
export function outcomeOf(start: (onOutcome: OnNativeOutcome) => void): Promise<Outcome> {
  return new Promise((resolve) => {
    start((outcome) => {
      resolve(readOutcome(outcome));
    });
  });
}

function readOutcome({ kind, address, port }: NativeOutcome): Outcome {
  if (kind !== 'redirected') {
    return kind;
  }
  return {
    redirectedTo: { address: formatAddress(address ?? new Uint8Array(4)), port: port ?? 0 },
  };
}
