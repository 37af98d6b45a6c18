import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';

/** Nobody but the loop itself refers to the device; the network does not keep it alive. */
async function decideFirst(device) {
  for await (const event of device.events({ types: ['connection'] })) {
    console.log(event.type);
    event.accept({ permanent: true });
    return;
  }
}

let { device, network } = await createSimulator();
const decided = decideFirst(device);
device = undefined;
await collectUntil(() => false, 20);
const flow = connect(network);
await decided;
console.log(await flow.outcome);
process.exit(0);
