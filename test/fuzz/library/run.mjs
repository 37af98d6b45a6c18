// Runs a fuzzer of the library, by fast-check: `node test/fuzz/library/run.mjs decoder 60`.
// It fails with the smallest input that breaks the property; otherwise it prints the number of inputs.
// It keeps a program of the API that breaks it, and runs it again: `node test/fuzz/library/run.mjs api FILE`.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { apiExamples, apiKeepsItsPromises, runProgram } from './api.mjs';
import { decoderExamples, decoderKeepsItsPromises } from './decoder.mjs';
import { policyExamples, policyKeepsItsPromises } from './policy.mjs';

const FINDINGS = join(import.meta.dirname, '..', '..', '..', 'build', 'fuzz', 'findings');
/** How long a finding is made smaller after the time of the run. */
const SHRINK_MS = 60_000;

const properties = {
  api: { property: apiKeepsItsPromises, examples: apiExamples },
  decoder: { property: decoderKeepsItsPromises, examples: decoderExamples },
  policy: { property: policyKeepsItsPromises, examples: policyExamples },
};

async function search(name, seconds) {
  const { property, examples } = properties[name];
  const limits = { numRuns: Number.MAX_SAFE_INTEGER, markInterruptAsFailure: false };
  const found = await fc.check(property, {
    ...limits,
    examples,
    interruptAfterTimeLimit: seconds * 1000,
  });
  if (found.counterexample === null) return { ...found, failed: false };
  const { seed, counterexamplePath: path } = found;
  const smaller = await fc.check(property, {
    ...limits,
    examples,
    seed,
    path,
    interruptAfterTimeLimit: SHRINK_MS,
  });
  return smaller.failed ? { ...smaller, numRuns: found.numRuns } : found;
}

function keep(name, [input]) {
  const text = JSON.stringify(input);
  const hash = createHash('sha1').update(text).digest('hex');
  const file = join(FINDINGS, `${name}-${hash}.json`);
  mkdirSync(FINDINGS, { recursive: true });
  writeFileSync(file, text);
  return file;
}

async function repeat(file) {
  await runProgram(JSON.parse(readFileSync(file, 'utf8')));
  console.log('It breaks nothing.');
}

async function fuzz(name, seconds) {
  const result = await search(name, seconds);
  if (result.failed) {
    console.log(fc.defaultReportMessage(result));
    if (name === 'api') {
      const file = keep(name, result.counterexample);
      console.log(`Repeat it: node test/fuzz/library/run.mjs api ${file}`);
    }
  }
  console.log(`executions: ${result.numRuns}`);
  process.exitCode = result.failed ? 1 : 0;
}

const [name, what] = process.argv.slice(2);
await (Number.isNaN(Number(what)) ? repeat(what) : fuzz(name, Number(what)));
process.exit();
