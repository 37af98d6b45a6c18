/** The computer that Wine plays, with the driver's binary loaded, in the simulated computer's place. */

import { Network } from '../../lib/simulator/network.js';
import { advanceWith } from '../../lib/simulator/simulator.js';
import { NetworkHandle, simulatorClosed } from '../../lib/simulator/network_handle.js';
import {
  open,
  type ClientOptions,
  type Device,
  type Simulator,
  type SimulatorOptions,
} from '../../lib/index.js';
import { RemoteNetwork } from './remote_network.js';

/** Its time is real and nothing verifies the driver: these options are passed over. */
const OF_SIMULATORS = ['clock', 'verifier'];

export async function startWineComputer(options: SimulatorOptions): Promise<Simulator> {
  const clientOptions: ClientOptions = Object.fromEntries(
    Object.entries(options).filter(([name]) => !OF_SIMULATORS.includes(name)),
  );
  const remote = RemoteNetwork.open();
  return new WineComputer(remote, await openClient(clientOptions));
}

function openClient(options: ClientOptions): Promise<Device> {
  return open({ ...options, backend: 'windows' });
}

class WineComputer implements Simulator {
  readonly device: Device;
  readonly network: Network;
  readonly clock;
  readonly #remote: RemoteNetwork;
  #client: Device;
  #closing: Promise<void> | undefined;

  constructor(remote: RemoteNetwork, device: Device) {
    this.device = device;
    this.network = new Network(new NetworkHandle(remote, () => this.#closing !== undefined));
    this.clock = {
      advance: (milliseconds: number): void => {
        advanceWith(this.#client, milliseconds, (stepMs) => {
          remote.advance(stepMs);
        });
      },
    };
    this.#remote = remote;
    this.#client = device;
  }

  readonly open = async (options: ClientOptions = {}): Promise<Device> => {
    if (this.#client.closed) await this.#client.close();
    if (this.#closing !== undefined) throw simulatorClosed();
    return (this.#client = await openClient(options));
  };

  readonly close = (): Promise<void> => (this.#closing ??= this.#close());

  readonly [Symbol.asyncDispose] = this.close;

  async #close(): Promise<void> {
    await this.#client.close();
    this.#remote.close();
  }
}
