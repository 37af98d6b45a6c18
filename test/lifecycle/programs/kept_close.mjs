import { openKept } from './kept_device.mjs';

const device = await openKept();
const start = performance.now();
await device.close();
const taken = performance.now() - start;
console.log(taken < 1000 ? 'closed within a second' : `closed after ${taken} ms`);
