import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';

const CONNECTIONS = 50;

/** While it waits, only the native side's callback refers to the device. */
async function decideAll() {
  const { device, network } = await createSimulator();
  void network.load({ connections: CONNECTIONS, inFlight: 1 });
  let decided = 0;
  for await (const event of device.events({ types: ['connection'] })) {
    event.accept({ permanent: true });
    decided += 1;
    if (decided === CONNECTIONS) break;
  }
  await device.close();
  return decided;
}

let decided = 0;
void decideAll().then((count) => {
  decided = count;
});
await collectUntil(() => decided > 0, Infinity);
console.log(`decided ${decided}`);
