/**
 * The package as the lifecycle programs import it, with the driver's binary instead of the simulated computer.
 * The programs show how a process ends, so only the device may keep the process alive.
 * The network is therefore opened at its first use, and outcomes of its traffic are not read.
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
