// A client of the base protocol whose read never ends: under Wine a read that waits in the driver blocks the driver.
// The argument is the path of its device. It prints how long the close took.
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';

const { loadBinding } = createRequire(import.meta.url)('../../../lib/addon/native.cjs');
const READS = { readBuffers: 4, readBufferSize: 65_536, highWaterMark: 1 << 20 };

const device = new (loadBinding().WindowsDevice)(
  { path: process.argv[2], ...READS },
  () => undefined,
);
device.start();
await delay(500);
const start = performance.now();
await device.close();
const taken = performance.now() - start;
console.log(taken < 1000 ? 'closed within a second' : `closed after ${taken} ms`);
