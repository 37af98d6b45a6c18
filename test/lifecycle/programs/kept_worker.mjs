import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

const worker = new Worker(new URL('worker_that_keeps.mjs', import.meta.url));
await once(worker, 'message');
const start = performance.now();
await worker.terminate();
const taken = performance.now() - start;
console.log(taken < 1500 ? 'terminated in time' : `terminated after ${taken} ms`);
await delay(500); // what was left behind still runs
