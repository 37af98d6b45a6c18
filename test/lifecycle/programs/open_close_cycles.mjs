import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const MEGABYTE = 1024 * 1024;
const SAMPLES = 5;
/** A leak of 8 KiB per cycle gives 6 MiB between the measurements. */
const MOST_GROWTH = 4 * MEGABYTE;

/** Opens and closes devices, each with a held connection at its end. */
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

/** Measures the process: the minimum of several samples, because other threads free garbage late. */
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

/** AddressSanitizer is slow, and its own memory varies by more than a leak, so handles alone are judged. */
const judgesMemory = process.env.ASAN_OPTIONS === undefined;
const part = judgesMemory ? 250 : 25;
/** A leak grows in each round. What other threads or a busy machine keep for a while does not. */
const ROUNDS = judgesMemory ? 4 : 1;

await cycles(4 * part); // until the allocators have reached their full size
const start = await held(part);
let before = start;
let after = start;
for (let round = 0; round < ROUNDS; round++) {
  before = after;
  await cycles(2 * part);
  after = await held(part);
  if (after.bytes - before.bytes <= MOST_GROWTH) break;
}
const grown = after.bytes - before.bytes;
console.log(`handles ${after.handles - start.handles}`);
if (!judgesMemory) {
  console.log('memory is not judged under AddressSanitizer');
} else {
  console.log(grown <= MOST_GROWTH ? 'memory is flat' : `memory has grown by ${grown} bytes`);
}
