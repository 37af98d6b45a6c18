/** A simulated computer for one test: its clock stands still, and every event of the driver is kept and checked. */

import { expect, onTestFinished } from 'vitest';
import type {
  ClientOptions,
  ConnectionEvent,
  Device,
  Direction,
  EventType,
  NetVerdictEvent,
  Network,
  Clock,
  Simulator,
  SimulatorOptions,
  Statistics,
} from '../../lib/index.js';
import { startComputer } from './computer.js';
import { FilterEngine } from './filter_engine.js';
import { StreamInvariants } from './stream_invariants.js';

type EventOf<T extends EventType> = Extract<NetVerdictEvent, { readonly type: T }>;

export class Simulated {
  readonly device: Device;
  readonly network: Network;
  readonly clock: Clock;
  readonly engine: FilterEngine;
  readonly #simulator: Simulator;
  readonly #waiting: NetVerdictEvent[] = [];
  readonly #invariants: StreamInvariants;
  readonly #before: Statistics;
  #wake: () => void = () => undefined;

  private constructor(
    simulator: Simulator,
    device: Device,
    invariants: StreamInvariants,
    before: Statistics,
  ) {
    this.device = device;
    this.network = simulator.network;
    this.clock = simulator.clock;
    this.engine = new FilterEngine(simulator.network);
    this.#simulator = simulator;
    this.#invariants = invariants;
    this.#before = before;
    void this.#collect();
    onTestFinished(() => {
      expect(this.#invariants.problems).toEqual([]);
    });
  }

  static async start(options: SimulatorOptions = {}): Promise<Simulated> {
    // The scenarios are about decisions, so a connection of the computer with itself is asked about, too.
    const simulator = await startComputer({ clock: 'virtual', loopback: 'ask', ...options });
    onTestFinished(() => simulator.close());
    const { device } = simulator;
    return new Simulated(simulator, device, new StreamInvariants(), await device.getStatistics());
  }

  /** Starts the application again: the driver's next client. */
  async reopen(options?: ClientOptions): Promise<Simulated> {
    const device = await this.#simulator.open(options);
    return new Simulated(
      this.#simulator,
      device,
      new StreamInvariants(this.#invariants),
      await device.getStatistics(),
    );
  }

  /** The increase of a counter since the start: the driver may have counted in an earlier test. */
  async counted(counter: Exclude<keyof Statistics, 'engineState'>): Promise<bigint> {
    return (await this.device.getStatistics())[counter] - this.#before[counter];
  }

  /** The oldest event of the type that no test code has taken yet. */
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

  /** The next `count` questions. */
  async questions(count: number): Promise<ConnectionEvent[]> {
    const questions: ConnectionEvent[] = [];
    while (questions.length < count) questions.push(await this.question());
    return questions;
  }

  /** All events of the type so far that no test code has taken yet. */
  async untaken<T extends EventType>(type: T): Promise<EventOf<T>[]> {
    // Records leave in turn by owner, so a reply alone may overtake others.
    while ((await this.counted('eventsDelivered')) < (await this.counted('eventsQueued')));
    await this.device.getLogs();
    await new Promise((resolve) => setImmediate(resolve));
    return this.#waiting.filter((event): event is EventOf<T> => event.type === type);
  }

  async #collect(): Promise<void> {
    for await (const event of this.device) {
      this.#invariants.take(event);
      this.#waiting.push(event);
      this.#wake();
    }
  }
}

/** The packets that are permitted from now on. */
export class Wire {
  readonly #packets: Record<Direction, Uint8Array[]> = { outbound: [], inbound: [] };
  #wake: () => void = () => undefined;

  constructor(network: Network) {
    network.onWire((packet, direction) => {
      this.#packets[direction].push(packet);
      this.#wake();
    });
  }

  /** Resolves once a matching packet is permitted. */
  async passes(direction: Direction, isSuch: (packet: Uint8Array) => boolean): Promise<void> {
    while (!this.#packets[direction].some(isSuch)) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
