import { openKept } from './kept_device.mjs';

const abort = new AbortController();
const device = await openKept(abort.signal);
const start = performance.now();
abort.abort();
await device.close();
const taken = performance.now() - start;
console.log(taken < 1000 ? 'closed within a second' : `closed after ${taken} ms`);
