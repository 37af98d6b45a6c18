/**
 * Mixed load on all layers for some minutes: random policies, clients that come and go, failing calls of the driver.
 * It runs one computer after the other, and prints statistics over time.
 * It fails when packets stay held, an error occurs, or memory grows.
 */

import { writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Command, InvalidArgumentError } from 'commander';
import Table from 'cli-table3';
import plot from 'simple-ascii-chart';
import { live } from './life.mjs';

const MEBIBYTE = 1024 * 1024;
const SAMPLE_MS = 1000;
const LIVES_AT_ONCE = 2;
const LIFE_MS = 5000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

const { minutes, seed, json } = new Command('soak')
  .description('mixed load on the simulated computer')
  .option('--minutes <n>', 'how long', positive, 10)
  .option('--seed <n>', 'of the random numbers', positive, Math.ceil(Math.random() * 1e9))
  .option('--json <file>', 'write the samples there')
  .parse()
  .opts();

/**
 * The growth allowed from the second third of the time to the last third.
 * In its first minutes a process still grows to the size that the load needs.
 */
const GROWTH_ALLOWED_MIB = { memoryMiB: minutes < 5 ? 48 : 16, poolMiB: 8 };

function positive(text) {
  const number = Number(text);
  if (!(number > 0)) throw new InvalidArgumentError('Give a number above 0.');
  return number;
}

const counts = {
  lives: 0,
  clients: 0,
  connections: 0,
  packets: 0,
  events: 0,
  verdicts: 0,
  lost: 0,
  faults: 0,
};
const pools = new Map();
const samples = [];
const started = Date.now();
const remaining = () => started + minutes * 60_000 - Date.now();

function sample() {
  collectGarbage(); // uncollected garbage is not growth
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  samples.push({
    seconds: Math.round((Date.now() - started) / 1000),
    ...counts,
    poolMiB: [...pools.values()].reduce((sum, bytes) => sum + bytes, 0) / MEBIBYTE,
    memoryMiB: (rss - heapTotal + heapUsed) / MEBIBYTE,
  });
}

async function liveAgain(lane) {
  for (let n = 0; remaining() > 0; n++) {
    await live({
      seed: seed + 1000 * n + lane,
      milliseconds: Math.min(LIFE_MS, remaining()),
      counts,
      gauges: (bytes) => pools.set(lane, bytes),
    });
  }
}

/** Returns the upper bound of the lowest quarter: lives differ in their needs, and a leak raises all of them. */
function lowerQuartile(values) {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 4)] ?? 0;
}

/** Returns the growth from the second third of the time to the last third. */
function growth(key) {
  const third = Math.floor(samples.length / 3);
  const values = samples.map((each) => each[key]);
  return lowerQuartile(values.slice(2 * third)) - lowerQuartile(values.slice(third, 2 * third));
}

function report() {
  const every = Math.max(1, Math.floor(samples.length / 20));
  const shown = samples.filter((_, index) => index % every === every - 1);
  const table = new Table({ head: Object.keys(samples[0] ?? {}) });
  for (const { poolMiB, memoryMiB, ...rest } of shown) {
    table.push([...Object.values(rest), poolMiB.toFixed(1), memoryMiB.toFixed(1)]);
  }
  console.log(table.toString());
  for (const key of ['memoryMiB', 'poolMiB']) {
    const points = shown.map((each) => [each.seconds, each[key]]);
    if (points.length > 1) {
      console.log(plot(points, { title: `${key} by seconds`, width: 60, height: 8 }));
    }
  }
}

const sampling = setInterval(sample, SAMPLE_MS);
console.log(`soak for ${minutes} minutes, seed ${seed}`);
try {
  await Promise.all(Array.from({ length: LIVES_AT_ONCE }, (_, lane) => liveAgain(lane)));
} catch (error) {
  console.error(
    `failed after ${Math.round((Date.now() - started) / 1000)} s, seed ${seed}:`,
    error,
  );
  process.exit(1);
} finally {
  clearInterval(sampling);
  report();
  if (json !== undefined) writeFileSync(json, JSON.stringify({ seed, samples }, null, 1));
}
let isFlat = true;
for (const [key, allowed] of Object.entries(GROWTH_ALLOWED_MIB)) {
  const grown = growth(key);
  const grows = grown > allowed;
  isFlat &&= !grows;
  console.log(
    `${key} ${grows ? 'grows' : 'is flat'}: ${grown.toFixed(1)} MiB from the second third of the time to the last`,
  );
}
process.exit(isFlat ? 0 : 1);
