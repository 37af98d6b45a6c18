/** A simulated computer with the driver, for applications' own tests. */

import type { NativeComputer } from '../addon/native.cjs';
import { check, choice, custom, flag, object, withDefault } from '../base/checks.js';
import { InvalidArgumentError } from '../base/errors.js';
import type { DriverOptions } from '../codec/driver_options.js';
import type { Device } from '../device/device.js';
import { openOn, startComputer } from '../device/embedded.js';
import {
  driverShape,
  readShape,
  resolveChecked,
  resolveClientOptions,
  type ClientOptions,
  type ReadOptions,
} from '../device/options.js';
import { Network } from './network.js';
import { NetworkHandle, simulatorClosed } from './network_handle.js';

/** Options for {@link createSimulator}. */
export interface SimulatorOptions extends DriverOptions, ReadOptions {
  /** `'virtual'`: only `clock.advance()` moves the time. `'real'`, the default: time passes by itself. */
  readonly clock?: 'real' | 'virtual';
  /** Checks the driver's use of memory and locks; slower, and on by default. */
  readonly verifier?: boolean;
}

/** A simulated computer. */
export interface Simulator extends AsyncDisposable {
  /**
   * The driver's device, as `open()` returns it.
   *
   * When the device is closed, the computer runs on, and the driver decides on its traffic by the fail policy.
   */
  readonly device: Device;
  /** The computer's network: the actions of its applications and of remote ends. */
  readonly network: Network;
  /** The computer's clock. */
  readonly clock: Clock;
  /**
   * Opens the driver's device again after the previous one was closed, as a restarted application does.
   *
   * An aborted signal rejects with its reason.
   *
   * @throws {@link BusyError} while a device is open.
   * @throws {@link ClosedError} when the simulator is closed.
   * @throws {@link InvalidArgumentError} for an invalid option.
   * @example
   * ```ts
   * await simulator.device.close(); // the application ends
   * await using device = await simulator.open({ failPolicy: 'closed' }); // and starts again
   * ```
   */
  open(options?: ClientOptions): Promise<Device>;
  /** Closes the open device and ends the computer. Closing again has no effect. */
  close(): Promise<void>;
}

/** The clock of a simulated computer. */
export interface Clock {
  /**
   * Advances a virtual clock, by up to a week. The driver's timers that fall due run before it returns.
   *
   * @throws {@link InvalidArgumentError} for an invalid time, or for a real clock.
   * @throws {@link ClosedError} when the simulator is closed.
   */
  advance(milliseconds: number): void;
}

const simulatorSchema = object({
  ...driverShape,
  ...readShape,
  clock: withDefault(choice(['real', 'virtual']), 'real'),
  verifier: withDefault(flag, true),
});

/**
 * Makes a simulated computer that runs the driver's own core. It does not touch the network of this computer.
 *
 * @throws {@link InvalidArgumentError} for an invalid option.
 * @throws {@link UnsupportedError} when the native part cannot be loaded.
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

/** Its methods are bound, so that callers may destructure it. */
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
    this.clock = new SimulatedClock(handle, hasVirtualClock, () => this.#client);
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

/**
 * Advances a clock in steps.
 * As on a real clock, the client tells the driver from time to time that it lives, while questions wait.
 *
 * @internal
 */
export function advanceWith(
  client: Device,
  milliseconds: number,
  advance: (milliseconds: number) => void,
): void {
  let left = milliseconds;
  for (let stepMs = client.lookAlive(); stepMs !== undefined && stepMs < left;) {
    advance(stepMs);
    left -= stepMs;
    stepMs = client.lookAlive();
  }
  advance(left);
}

const WEEK_MS = 7 * 24 * 3_600_000;
const stepSchema = custom<number>(
  (value) => typeof value === 'number' && value >= 0 && value <= WEEK_MS,
  `must be a number from 0 to ${WEEK_MS}, a week, because every timer that falls due runs`,
);

class SimulatedClock implements Clock {
  readonly #handle: NetworkHandle;
  readonly #isVirtual: boolean;
  readonly #client: () => Device;

  constructor(handle: NetworkHandle, isVirtual: boolean, client: () => Device) {
    this.#handle = handle;
    this.#isVirtual = isVirtual;
    this.#client = client;
  }

  advance(milliseconds: number): void {
    if (!this.#isVirtual) {
      throw new InvalidArgumentError(
        "This simulator's clock is real. Create it with { clock: 'virtual' } to advance the time yourself.",
      );
    }
    advanceWith(this.#client(), check(stepSchema, milliseconds, 'advance()'), (stepMs) => {
      this.#handle.native.advance(stepMs);
    });
  }
}
