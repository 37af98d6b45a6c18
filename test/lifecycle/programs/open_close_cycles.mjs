import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const MEGABYTE = 1024 * 1024;
const SAMPLES = 5;
/** A leak of 8 KiB in each of a thousand cycles is twice as much. AddressSanitizer's own memory comes and goes. */
const MOST_GROWTH = (process.env.ASAN_OPTIONS === undefined ? 4 : 16) * MEGABYTE;

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

/** What the process holds: the least of several samples, as garbage is let go of in other threads. */
async function held(count) {
  let bytes = Infinity;
  for (let sample = 0; sample < SAMPLES; sample++) {
    await cycles(count / SAMPLES);
    globalThis.gc();
    await turn();
    globalThis.gc();
    bytes = Math.min(bytes, process.memoryUsage.rss());
  }
  const handles = process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
  return { bytes, handles };
}

await cycles(1000); // until the allocators have what they ever take
const before = await held(250);
await cycles(500);
const after = await held(250);
const grown = after.bytes - before.bytes;
console.log(`handles ${after.handles - before.handles}`);
console.log(grown <= MOST_GROWTH ? 'memory is flat' : `memory has grown by ${grown} bytes`);
