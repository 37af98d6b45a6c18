/** A simulated computer with the driver in it, for the tests of applications. */

import { z } from 'zod';
import type { NativeComputer } from '../addon/native.cjs';
import { check } from '../base/checks.js';
import { InvalidArgumentError } from '../base/errors.js';
import type { DriverOptions } from '../codec/driver_options.js';
import type { Device } from '../device/device.js';
import { openOn, startComputer } from '../device/embedded.js';
import {
  clientSchema,
  resolveChecked,
  resolveClientOptions,
  type ClientOptions,
  type ReadOptions,
} from '../device/options.js';
import { Network } from './network.js';
import { NetworkHandle, simulatorClosed } from './network_handle.js';

/** What a simulated computer is like. */
export interface SimulatorOptions extends DriverOptions, ReadOptions {
  /** `'virtual'`: time stands still but for `clock.advance()`. `'real'`, the default: it goes as everywhere. */
  readonly clock?: 'real' | 'virtual';
  /** Checks the driver's use of memory and locks as Driver Verifier does; on by default. It costs time. */
  readonly verifier?: boolean;
}

/** A simulated computer. */
export interface Simulator extends AsyncDisposable {
  /**
   * The driver's device, as `open()` would give it. When it is closed the computer goes on, and the driver decides over
   * its traffic by the fail policy.
   */
  readonly device: Device;
  /** The computer's network: what applications and remote ends do. */
  readonly network: Network;
  /** The computer's time. */
  readonly clock: Clock;
  /**
   * Opens the driver's device again, as an application that is started anew does, once the one before is closed.
   *
   * @throws {@link BusyError} while one is open; {@link ClosedError} when the simulator is closed;
   *   {@link InvalidArgumentError} for an option that is not as it must be; the signal's reason when it is aborted.
   * @example
   * ```ts
   * await simulator.device.close(); // the application ends
   * await using device = await simulator.open({ failPolicy: 'closed' }); // and is started anew
   * ```
   */
  open(options?: ClientOptions): Promise<Device>;
  /** Closes the device that is open and ends the computer. Closing again does nothing more. */
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

const simulatorSchema = clientSchema.omit({ signal: true }).extend({
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
  const { clock, verifier, ...client } = check(
    simulatorSchema,
    options,
    'The options of createSimulator()',
  );
  const virtualClock = clock === 'virtual';
  const computer = startComputer({ virtualClock, verifier });
  try {
    const device = await openOn(computer, resolveChecked(client, options));
    return new SimulatedComputer(computer, device, virtualClock);
  } catch (error) {
    await computer.close();
    throw error;
  }
}

/** Its methods may be taken from it. */
class SimulatedComputer implements Simulator {
  readonly device: Device;
  readonly network: Network;
  readonly clock: Clock;
  readonly #computer: NativeComputer;
  #client: Device;
  #closing: Promise<void> | undefined;

  constructor(computer: NativeComputer, device: Device, hasVirtualClock: boolean) {
    const handle = new NetworkHandle(computer, () => this.#closing !== undefined);
    this.device = device;
    this.network = new Network(handle);
    this.clock = new SimulatedClock(handle, hasVirtualClock);
    this.#computer = computer;
    this.#client = device;
  }

  readonly open = async (options: ClientOptions = {}): Promise<Device> => {
    const resolved = resolveClientOptions(options);
    if (this.#client.closed) {
      await this.#client.close();
    }
    this.#assertOpen();
    resolved.signal?.throwIfAborted();
    const device = await openOn(this.#computer, resolved);
    this.#client = device;
    if (this.#closing !== undefined) {
      await device.close();
    }
    this.#assertOpen();
    return device;
  };

  readonly close = (): Promise<void> => (this.#closing ??= this.#close());

  readonly [Symbol.asyncDispose] = this.close;

  #assertOpen(): void {
    if (this.#closing !== undefined) {
      throw simulatorClosed();
    }
  }

  async #close(): Promise<void> {
    await Promise.all([this.#client.close(), this.#computer.close()]);
  }
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
