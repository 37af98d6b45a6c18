import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const program = new URL('worker_that_reads.mjs', import.meta.url);
const [code] = await once(new Worker(program, { workerData: 'exit' }), 'exit');
console.log(`exited ${code}`);
