import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

async function decideOne({ device, network }) {
  const flow = connect(network);
  for await (const event of device.events({ types: ['connection'] })) {
    event.accept({ permanent: true });
    return flow.outcome;
  }
}

const simulators = await Promise.all(Array.from({ length: 8 }, () => createSimulator()));
console.log((await Promise.all(simulators.map(decideOne))).join(' '));
await Promise.all(simulators.map((simulator) => simulator.close()));
