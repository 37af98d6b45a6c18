/** The simulation under Wine without a client: the driver is loaded, and no client is attached. */

import { onTestFinished, expect, test } from 'vitest';
import { Network } from '../../lib/simulator/network.js';
import { NetworkHandle } from '../../lib/simulator/network_handle.js';
import { RemoteNetwork } from './remote_network.js';

const remote = { address: '198.51.100.7', port: 443 };

function start(): { readonly network: Network; readonly remoteNetwork: RemoteNetwork } {
  const remoteNetwork = RemoteNetwork.open();
  onTestFinished(() => {
    remoteNetwork.close();
  });
  return { network: new Network(new NetworkHandle(remoteNetwork, () => false)), remoteNetwork };
}

test('the driver filters at no layer without a client', () => {
  expect(start().remoteNetwork.engine().layers).toBe(0);
});

test('without a client all traffic is permitted', async () => {
  const { network } = start();
  const flow = network.connect({ processId: 1, protocol: 'tcp', remote });
  expect(await flow.outcome).toBe('permitted');
  expect(await flow.send(new Uint8Array(100))).toBe('permitted');
  expect(await flow.receive(new Uint8Array(50))).toBe('permitted');
  const counters = network.counters();
  expect([counters.streamBytesSent, counters.streamBytesReceived, counters.flowsNow]).toEqual([
    100, 50, 1,
  ]);
  flow.close();
});

test('a new network has counted no traffic', () => {
  const counters = start().network.counters();
  expect([counters.offered, counters.flowsTotal]).toEqual([0, 0]);
});

test('outbound packets are reported when they leave', async () => {
  const { network } = start();
  const seen: [string, number][] = [];
  network.onWire((packet, direction) => seen.push([direction, packet.length]));
  const payload = new Uint8Array(1000);
  await network.connect({ processId: 1, protocol: 'udp', remote, payload }).outcome;
  await expect.poll(() => seen).toEqual([['outbound', 1028]]);
});

test('a load runs to its end', async () => {
  const { network } = start();
  const result = await network.load({ connections: 500, inFlight: 16 });
  expect([result.permitted, result.blocked, result.dropped]).toEqual([500, 0, 0]);
});

test('a missing capture is refused', async () => {
  await expect(start().network.replay('C:\\no-such.pcap')).rejects.toThrow('no-such.pcap');
});

test('a listener accepts inbound connections', async () => {
  const { network } = start();
  const local = { address: '192.0.2.10', port: 8080 };
  const listener = network.listen({ processId: 5, protocol: 'tcp', local });
  const flow = network.accept({ processId: 5, protocol: 'tcp', local });
  expect(await flow.outcome).toBe('permitted');
  listener.close();
});
