import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

async function terminateInRead() {
  const worker = new Worker(new URL('worker_that_reads.mjs', import.meta.url));
  await once(worker, 'message');
  return worker.terminate();
}

const codes = await Promise.all([terminateInRead(), terminateInRead(), terminateInRead()]);
console.log(`terminated ${codes.join(' ')}`);
