import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

async function terminateInRead() {
  const worker = new Worker(new URL('worker_that_reads.mjs', import.meta.url));
  await once(worker, 'message');
  return worker.terminate();
}

/** Runs three at once; under Wine in sequence, because Windows' driver allows one program at a time. */
async function threeTimes(action) {
  const first = action();
  if (process.platform === 'win32') await first;
  const second = action();
  if (process.platform === 'win32') await second;
  return Promise.all([first, second, action()]);
}

console.log(`terminated ${(await threeTimes(terminateInRead)).join(' ')}`);
