import { createSimulator, Verdict } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';

let warnings = 0;
process.on('warning', () => {
  warnings += 1;
});

/**
 * No client reads: the driver's timeout verdict differs from the fail policy that applies when a client ends.
 * Only the awaited results refer to the simulator.
 */
const impatient = {
  failPolicy: 'closed',
  pendingTimeoutMs: 20,
  timeoutVerdict: Verdict.PermanentAccept,
};

async function awaitOutcome() {
  const { network } = await createSimulator(impatient);
  return connect(network).outcome;
}

async function awaitLoad() {
  const { network } = await createSimulator(impatient);
  return network.load({ connections: 3 });
}

async function collectWhile(awaited) {
  let result;
  void awaited.then((value) => {
    result = value;
  });
  await collectUntil(() => result !== undefined, Infinity);
  return result;
}

console.log(`outcome ${await collectWhile(awaitOutcome())}`);
console.log(`load permitted ${(await collectWhile(awaitLoad())).permitted}`);
await collectUntil(() => warnings === 2);
console.log(warnings === 2 ? 'warned twice' : `${warnings} warnings`);
