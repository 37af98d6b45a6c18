import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';

let warning;
process.on('warning', (given) => {
  warning ??= given;
});

async function forget() {
  const { device, network } = await createSimulator();
  connect(network);
  await device.events().next();
}

await forget();
await collectUntil(() => warning !== undefined);
console.log(/garbage-collected before it was closed/.test(warning?.message) ? 'warned' : warning);
