/** The computer that Wine plays, with the driver's binary loaded, in the simulated computer's place. */

import { Network } from '../../lib/network.js';
import { NetworkHandle } from '../../lib/network_handle.js';
import { open, type OpenOptions, type Simulator, type SimulatorOptions } from '../../lib/index.js';
import { RemoteNetwork } from './remote_network.js';

/** Its time is real and nothing verifies the driver: these options are passed over. */
const OF_SIMULATORS = ['clock', 'verifier'];

export async function startWineComputer(options: SimulatorOptions): Promise<Simulator> {
  const driverOptions: OpenOptions = Object.fromEntries(
    Object.entries(options).filter(([name]) => !OF_SIMULATORS.includes(name)),
  );
  const remote = RemoteNetwork.open();
  const device = await open({ ...driverOptions, backend: 'windows' });
  const handle = new NetworkHandle(remote, () => device.closed);
  const close = async (): Promise<void> => {
    await device.close();
    remote.close();
  };
  return {
    device,
    network: new Network(handle),
    clock: {
      advance: (milliseconds) => {
        remote.advance(milliseconds);
      },
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
