import { readdirSync } from 'node:fs';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const MEGABYTE = 1024 * 1024;

/** Each with a connection that is held at the end. */
async function cycles(count) {
  for (let i = 0; i < count; i++) {
    const { device, network } = await createSimulator();
    const { outcome } = connect(network);
    const events = device[Symbol.asyncIterator]();
    await events.next();
    await device.close();
    await outcome;
  }
}

/** Memory that is not the JavaScript heap's room to grow. */
function used() {
  globalThis.gc();
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  const handles = process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
  return { bytes: rss - heapTotal + heapUsed, handles };
}

await cycles(400);
const before = used();
await cycles(600);
const after = used();
const grown = Math.round((after.bytes - before.bytes) / MEGABYTE);
console.log(`handles ${after.handles - before.handles}`);
console.log(grown <= 8 ? 'memory is flat' : `memory has grown by ${grown} MiB`);
