// Runs a fuzzer of the library, by fast-check: `node test/fuzz/library/run.mjs decoder 60`.
// It fails with the smallest input that breaks the property.
// It fails too if the library refuses a valid seed, or nearly everything: such a library keeps each property.
// Otherwise it prints the number of inputs, and how many of them were accepted.
// It keeps a program of the API that breaks it, and runs it again: `node test/fuzz/library/run.mjs api FILE`.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { api } from './api.mjs';
import { decoder } from './decoder.mjs';
import { policy } from './policy.mjs';

const FINDINGS = join(import.meta.dirname, '..', '..', '..', 'build', 'fuzz', 'findings');
/** How long a finding is made smaller after the time of the run. */
const SHRINK_MS = 60_000;

const fuzzers = { api, decoder, policy };

/** Runs inputs until the time is over or one breaks the property. That one is then made smaller. */
async function search({ property, examples }, seconds) {
  let accepted = 0;
  const tested = property(() => accepted++);
  const options = {
    examples,
    numRuns: Number.MAX_SAFE_INTEGER,
    markInterruptAsFailure: false,
    includeErrorInReport: true,
  };
  const milliseconds = seconds * 1000;
  const found = await fc.check(tested, { ...options, interruptAfterTimeLimit: milliseconds });
  const { numRuns, failed, seed, counterexamplePath: path } = found;
  if (!failed) return { result: found, numRuns, accepted };
  const again = { ...options, seed, path, interruptAfterTimeLimit: SHRINK_MS };
  const smaller = await fc.check(tested, again);
  return { result: smaller.failed ? smaller : found, numRuns, accepted };
}

function keep(program) {
  const text = JSON.stringify(program);
  const hash = createHash('sha1').update(text).digest('hex');
  const file = join(FINDINGS, `api-${hash}.json`);
  mkdirSync(FINDINGS, { recursive: true });
  writeFileSync(file, text);
  return file;
}

async function fuzz(name, seconds) {
  const fuzzer = fuzzers[name];
  await fuzzer.checkSeeds();
  const { result, numRuns, accepted } = await search(fuzzer, seconds);
  const acceptsTooFew = accepted < fuzzer.leastAccepted * numRuns;
  if (result.failed) {
    console.log(fc.defaultReportMessage(result));
    if (name === 'api') {
      const file = keep(result.counterexample[0]);
      console.log(`Repeat it: node test/fuzz/library/run.mjs api ${file}`);
    }
  }
  console.log(`executions: ${numRuns}`);
  console.log(`accepted: ${accepted}${acceptsTooFew ? ', which is too few' : ''}`);
  return !result.failed && !acceptsTooFew;
}

async function repeat(file) {
  await api.runProgram(JSON.parse(readFileSync(file, 'utf8')));
  console.log('It breaks nothing.');
  return true;
}

const [name, what] = process.argv.slice(2);
const seconds = Number(what);
const passes = await (Number.isNaN(seconds) ? repeat(what) : fuzz(name, seconds));
process.exit(passes ? 0 : 1);
