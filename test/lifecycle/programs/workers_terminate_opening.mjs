import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const WORKERS = 20;
const STEP_MS = 0.4; // each one is terminated this much later than the one before

function waitBusily(milliseconds) {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

for (let n = 0; n < WORKERS; n++) {
  const worker = new Worker(new URL('worker_that_opens.mjs', import.meta.url));
  await once(worker, 'message');
  waitBusily(n * STEP_MS);
  await worker.terminate();
}
console.log('all terminated');
