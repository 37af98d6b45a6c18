/**
 * The package as the lifecycle programs import it, with the driver's binary in the simulated computer's place. They show
 * how a process ends, so nothing but the device may keep it: the network is opened at its first use, and nobody hears what
 * becomes of its traffic.
 */

import { Network } from '../../lib/simulator/network.js';
import { NetworkHandle } from '../../lib/simulator/network_handle.js';
import { open, type ClientOptions, type Device, type Simulator } from '../../lib/index.js';
import { RemoteNetwork } from './remote_network.js';

export * from '../../lib/index.js';

type UnheardComputer = Omit<Simulator, 'clock' | typeof Symbol.asyncDispose>;

export async function createSimulator(): Promise<UnheardComputer> {
  const openClient = (options: ClientOptions = {}): Promise<Device> =>
    open({ ...options, backend: 'windows' });
  const device = await openClient();
  let client = device;
  let network: Network | undefined;
  let isClosed = false;
  return {
    device,
    get network() {
      const handle = () => new NetworkHandle(RemoteNetwork.openUnheard(), () => isClosed);
      return (network ??= new Network(handle()));
    },
    open: async (options) => (client = await openClient(options)),
    close: () => {
      isClosed = true;
      return client.close();
    },
  };
}
