import { parentPort } from 'node:worker_threads';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const simulator = await createSimulator();
const flow = connect(simulator.network);
for await (const event of simulator.device.events({ types: ['connection'] })) {
  event.accept({ permanent: true });
  break;
}
parentPort.postMessage(await flow.outcome);
await simulator.close();
