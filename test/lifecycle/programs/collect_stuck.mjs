// Simulators without references, in which something waits that nobody decides and nobody awaits.
import { fileURLToPath } from 'node:url';
import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';
import { countThreads } from './threads.mjs';

let warnings = 0;
process.on('warning', () => {
  warnings += 1;
});

const capture = fileURLToPath(new URL('../../../captures/host-traffic.pcap', import.meta.url));
let kept;

const stuck = {
  flow: ({ network }) => connect(network),
  read: async ({ device, network }) => {
    connect(network);
    await device.events().next();
  },
  sent: ({ network }) => void connect(network).send(Uint8Array.of(1)),
  packet: ({ network }) => void network.packet(new Uint8Array(40).fill(0x45), 'outbound'),
  load: ({ network }) => void network.load({ connections: 3 }),
  replay: (simulator) => {
    const onProgress = () => simulator;
    void simulator.network.replay(capture, { onProgress });
  },
  wire: (simulator) => {
    simulator.network.onWire(() => simulator);
    connect(simulator.network);
  },
  outcome: ({ network }) => {
    kept = connect(network).outcome;
  },
};

for (const [name, begin] of Object.entries(stuck)) {
  const threads = countThreads();
  const before = warnings;
  await (async () => {
    await begin(await createSimulator({ failPolicy: 'closed' }));
  })();
  await collectUntil(() => countThreads() <= threads && warnings > before);
  console.log(`${name}: ${countThreads() <= threads ? 'collected' : 'kept'}`);
}
console.log(await kept);
