import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';
import { countThreads } from './threads.mjs';

let warning;
process.on('warning', (given) => {
  warning ??= given;
});

async function forget() {
  const { device, network } = await createSimulator();
  const flow = connect(network);
  const { value } = await device.events({ types: ['connection'] }).next();
  value.accept({ permanent: true });
  await flow.outcome;
}

const threads = countThreads();
await forget();
await collectUntil(() => warning !== undefined);
console.log(/garbage-collected before it was closed/.test(warning?.message) ? 'warned' : warning);
console.log(countThreads() <= threads ? 'its threads have ended' : 'its threads run still');
