import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

async function useInWorker() {
  const worker = new Worker(new URL('worker_that_uses.mjs', import.meta.url));
  const [[outcome]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  return outcome;
}

console.log((await Promise.all([useInWorker(), useInWorker(), useInWorker()])).join(' '));
