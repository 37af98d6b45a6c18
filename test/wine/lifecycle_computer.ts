/**
 * The package as the lifecycle programs import it, with the driver's binary in the simulated computer's place. They show
 * how a process ends, so nothing but the device may keep it: the network is opened at its first use, and nobody hears what
 * becomes of its traffic.
 */

import { Network } from '../../lib/network.js';
import { NetworkHandle } from '../../lib/network_handle.js';
import { open, type Device } from '../../lib/index.js';
import { RemoteNetwork } from './remote_network.js';

export * from '../../lib/index.js';

interface UnheardComputer {
  readonly device: Device;
  readonly network: Network;
  close(): Promise<void>;
}

export async function createSimulator(): Promise<UnheardComputer> {
  const device = await open({ backend: 'windows' });
  let network: Network | undefined;
  return {
    device,
    get network() {
      const handle = () => new NetworkHandle(RemoteNetwork.openUnheard(), () => device.closed);
      return (network ??= new Network(handle()));
    },
    close: () => device.close(),
  };
}
