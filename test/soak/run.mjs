/**
 * Mixed load on all layers for some minutes: random policies, clients that come and go, failing calls of the driver.
 * It runs two computers at a time, round after round, and prints statistics over time.
 * It fails when packets stay held, an error occurs, memory grows, or something that it counts never happens.
 */

import { writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Command, InvalidArgumentError } from 'commander';
import Table from 'cli-table3';
import plot from 'simple-ascii-chart';
import { live } from './life.mjs';
import { slope } from './trend.mjs';

const MEBIBYTE = 1024 * 1024;
const LIVES_AT_ONCE = 2;
const LIFE_MS = 5000;
/** Memory is judged in longer runs alone: in its first minutes a process grows to the size that the load needs. */
const LEAST_MINUTES_FOR_MEMORY = 5;
const MOST_GROWTH_MIB_A_MINUTE = 4;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

const { minutes, seed, json } = new Command('soak')
  .description('mixed load on the simulated computer')
  .option('--minutes <n>', 'how long', positive, 10)
  .option('--seed <n>', 'of the random numbers', positive, Math.ceil(Math.random() * 1e9))
  .option('--json <file>', 'write the samples there')
  .parse()
  .opts();

function positive(text) {
  const number = Number(text);
  if (!(number > 0)) throw new InvalidArgumentError('Give a number above 0.');
  return number;
}

const counts = {
  lives: 0,
  clients: 0,
  stalls: 0,
  connections: 0,
  packets: 0,
  events: 0,
  verdicts: 0,
  lost: 0,
  faults: 0,
  exchanges: 0,
  bursts: 0,
  rawPackets: 0,
  replays: 0,
  commands: 0,
};
const samples = [];
const started = Date.now();
const remaining = () => started + minutes * 60_000 - Date.now();

/** Measures the process between two rounds: no computer is alive. */
function sample() {
  collectGarbage(); // uncollected garbage is not growth
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  samples.push({
    seconds: Math.round((Date.now() - started) / 1000),
    ...counts,
    memoryMiB: (rss - heapTotal + heapUsed) / MEBIBYTE,
  });
}

async function runRounds() {
  for (let round = 0; remaining() > 0; round++) {
    const milliseconds = Math.min(LIFE_MS, remaining());
    const lives = Array.from({ length: LIVES_AT_ONCE }, (_, lane) =>
      live({ seed: seed + 1000 * round + lane, milliseconds, counts }),
    );
    await Promise.all(lives);
    sample();
  }
}

function report() {
  const every = Math.max(1, Math.floor(samples.length / 20));
  const shown = samples.filter((_, index) => index % every === every - 1);
  const table = new Table({ head: Object.keys(samples[0] ?? {}) });
  for (const { memoryMiB, ...rest } of shown) {
    table.push([...Object.values(rest), memoryMiB.toFixed(1)]);
  }
  console.log(table.toString());
  const points = shown.map(({ seconds, memoryMiB }) => [seconds, memoryMiB]);
  if (points.length > 1) {
    console.log(plot(points, { title: 'memory in MiB by seconds', width: 60, height: 8 }));
  }
}

/** Throws an error if memory grows in the last two thirds of the time. A short run does not say that it is flat. */
function expectFlat() {
  const settled = samples.slice(Math.floor(samples.length / 3));
  const growth = slope(settled.map(({ seconds, memoryMiB }) => [seconds / 60, memoryMiB]));
  const isJudged = minutes >= LEAST_MINUTES_FOR_MEMORY;
  const remark = isJudged ? '' : `; it is judged from ${LEAST_MINUTES_FOR_MEMORY} minutes on`;
  console.log(`memory: ${growth.toFixed(1)} MiB a minute in ${settled.length} rounds${remark}`);
  if (isJudged && !(growth <= MOST_GROWTH_MIB_A_MINUTE)) {
    throw new Error(`memory grows by ${growth} MiB a minute, over ${MOST_GROWTH_MIB_A_MINUTE}`);
  }
}

function expectActivity() {
  const idle = Object.keys(counts).filter((name) => counts[name] === 0);
  if (idle.length > 0) throw new Error(`nothing is shown without ${idle.join(', ')}`);
}

console.log(`soak for ${minutes} minutes, seed ${seed}`);
try {
  await runRounds();
  expectActivity();
  expectFlat();
} catch (error) {
  const seconds = Math.round((Date.now() - started) / 1000);
  console.error(`failed after ${seconds} s, seed ${seed}:`, error);
  process.exitCode = 1;
}
report();
if (json !== undefined) writeFileSync(json, JSON.stringify({ seed, samples }, null, 1));
process.exit(); // a failed life may have left work behind
