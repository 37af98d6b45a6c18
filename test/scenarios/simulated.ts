/** A simulated computer for one test: its time stands still, and everything that the driver says is kept. */

import { onTestFinished } from 'vitest';
import type {
  ConnectionEvent,
  Device,
  EventType,
  NetVerdictEvent,
  Network,
  Clock,
  SimulatorOptions,
} from '../../lib/index.js';
import { startComputer } from './computer.js';

type EventOf<T extends EventType> = Extract<NetVerdictEvent, { readonly type: T }>;

export class Simulated {
  readonly device: Device;
  readonly network: Network;
  readonly clock: Clock;
  readonly #waiting: NetVerdictEvent[] = [];
  #wake: () => void = () => undefined;

  private constructor(device: Device, network: Network, clock: Clock) {
    this.device = device;
    this.network = network;
    this.clock = clock;
    void this.#collect();
  }

  static async start(options: SimulatorOptions = {}): Promise<Simulated> {
    const simulator = await startComputer({ clock: 'virtual', ...options });
    onTestFinished(() => simulator.close());
    return new Simulated(simulator.device, simulator.network, simulator.clock);
  }

  /** The oldest event of the type that was not yet taken. */
  async next<T extends EventType>(type: T): Promise<EventOf<T>> {
    for (;;) {
      const index = this.#waiting.findIndex((event) => event.type === type);
      if (index >= 0) return this.#waiting.splice(index, 1)[0] as EventOf<T>;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The next question for a verdict. */
  question(): Promise<ConnectionEvent> {
    return this.next('connection');
  }

  /** The next questions, as many as these. */
  async questions(count: number): Promise<ConnectionEvent[]> {
    const questions: ConnectionEvent[] = [];
    while (questions.length < count) questions.push(await this.question());
    return questions;
  }

  /** What the driver had said until now and was not yet taken. */
  async untaken<T extends EventType>(type: T): Promise<EventOf<T>[]> {
    await this.device.getLogs();
    await new Promise((resolve) => setImmediate(resolve));
    return this.#waiting.filter((event): event is EventOf<T> => event.type === type);
  }

  async #collect(): Promise<void> {
    for await (const event of this.device) {
      this.#waiting.push(event);
      this.#wake();
    }
  }
}
