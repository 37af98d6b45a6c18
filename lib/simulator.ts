/** A simulated computer with the driver in it, for the tests of applications. */

import { z } from 'zod';
import { check } from './checks.js';
import type { Device } from './device.js';
import { openEmbedded } from './embedded.js';
import { InvalidArgumentError } from './errors.js';
import { Network } from './network.js';
import { NetworkHandle } from './network_handle.js';
import {
  driverShape,
  readShape,
  resolveOptions,
  type DriverOptions,
  type ReadOptions,
} from './options.js';

/** What a simulated computer is like. */
export interface SimulatorOptions extends DriverOptions, ReadOptions {
  /** `'virtual'`: time stands still but for `clock.advance()`. `'real'`, the default: it goes as everywhere. */
  readonly clock?: 'real' | 'virtual';
  /** Checks the driver's use of memory and locks as Driver Verifier does; on by default. It costs time. */
  readonly verifier?: boolean;
}

/** A simulated computer. */
export interface Simulator extends AsyncDisposable {
  /** The driver's device, as `open()` would give it. */
  readonly device: Device;
  /** The computer's network: what applications and remote ends do. */
  readonly network: Network;
  /** The computer's time. */
  readonly clock: Clock;
  /** Closes the device and ends the computer. */
  close(): Promise<void>;
}

/** The simulated computer's time. */
export interface Clock {
  /**
   * Lets time pass, up to a week: the driver's timers that fall due run before it returns.
   *
   * @throws {@link InvalidArgumentError}, also when the clock is a real one; {@link ClosedError}.
   */
  advance(milliseconds: number): void;
}

const simulatorSchema = z.strictObject({
  ...driverShape,
  ...readShape,
  clock: z.enum(['real', 'virtual']).default('real'),
  verifier: z.boolean().default(true),
});

/**
 * Makes a simulated computer with the driver's own core in it. Nothing on this computer is touched.
 *
 * @throws {@link InvalidArgumentError} for an option that is not as it must be; {@link UnsupportedError} when the
 *   native part cannot be loaded.
 * @example
 * ```ts
 * await using simulator = await createSimulator({ clock: 'virtual' });
 * const { device, network } = simulator;
 * const flow = network.connect({ processId: 42, protocol: 'tcp', remote: { address: '192.0.2.1', port: 443 } });
 * for await (const event of device.events({ types: ['connection'] })) {
 *   event.accept({ permanent: true });
 *   break;
 * }
 * console.log(await flow.outcome); // 'permitted'
 * ```
 */
export async function createSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const { clock, verifier, ...rest } = check(
    simulatorSchema,
    options,
    'The options of createSimulator()',
  );
  const { timeoutVerdict, ...others } = rest;
  const resolved = resolveOptions({
    ...others,
    ...(timeoutVerdict === undefined ? {} : { timeoutVerdict }),
    backend: 'embedded',
  });
  const virtualClock = clock === 'virtual';
  const { device, native } = await openEmbedded(resolved, { virtualClock, verifier });
  const handle = new NetworkHandle(native, () => device.closed);
  const close = (): Promise<void> => device.close();
  return {
    device,
    network: new Network(handle),
    clock: new SimulatedClock(handle, virtualClock),
    close,
    [Symbol.asyncDispose]: close,
  };
}

const WEEK_MS = 7 * 24 * 3_600_000;
const stepSchema = z
  .number()
  .min(0)
  .max(WEEK_MS, `must be at most ${WEEK_MS}, a week: every timer that falls due runs`);

class SimulatedClock implements Clock {
  readonly #handle: NetworkHandle;
  readonly #isVirtual: boolean;

  constructor(handle: NetworkHandle, isVirtual: boolean) {
    this.#handle = handle;
    this.#isVirtual = isVirtual;
  }

  advance(milliseconds: number): void {
    if (!this.#isVirtual) {
      throw new InvalidArgumentError(
        "This simulator's clock is real. Create it with { clock: 'virtual' } to advance the time yourself.",
      );
    }
    this.#handle.native.advance(check(stepSchema, milliseconds, 'advance()'));
  }
}
