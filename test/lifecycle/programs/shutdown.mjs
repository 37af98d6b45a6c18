import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const simulator = await createSimulator();
const { device, network } = simulator;
connect(network);
for await (const event of device) {
  console.log(event.type);
  device.shutdown();
}
console.log('loop ended');
await simulator.close();
