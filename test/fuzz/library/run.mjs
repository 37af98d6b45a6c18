// Runs a fuzzer of the library, by fast-check: `node test/fuzz/library/run.mjs decoder 60`.
// It fails with the smallest input that breaks the property.
// It fails too if the library refuses a valid seed, or nearly everything: such a library keeps each property.
// Otherwise it prints the number of inputs, and how many of them were accepted.
import fc from 'fast-check';
import { decoder } from './decoder.mjs';
import { policy } from './policy.mjs';

const fuzzers = { decoder, policy };

const [name, seconds] = process.argv.slice(2);
const { property, examples, checkSeeds, leastAccepted } = fuzzers[name];
let accepted = 0;
checkSeeds();
const result = fc.check(
  property(() => accepted++),
  {
    examples,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: Number(seconds) * 1000,
    markInterruptAsFailure: false,
  },
);
const acceptsTooFew = accepted < leastAccepted * result.numRuns;
if (result.failed) console.log(fc.defaultReportMessage(result));
console.log(`executions: ${result.numRuns}`);
console.log(`accepted: ${accepted}${acceptsTooFew ? ', which is too few' : ''}`);
process.exitCode = result.failed || acceptsTooFew ? 1 : 0;
