// Runs a fuzzer of the library, by fast-check: `node test/fuzz/library/run.mjs decoder 60`.
// It fails with the smallest input that breaks the property; otherwise it prints the number of inputs.
import fc from 'fast-check';
import { decoderExamples, decoderKeepsItsPromises } from './decoder.mjs';
import { policyExamples, policyKeepsItsPromises } from './policy.mjs';

const properties = {
  decoder: { property: decoderKeepsItsPromises, examples: decoderExamples },
  policy: { property: policyKeepsItsPromises, examples: policyExamples },
};

const [name, seconds] = process.argv.slice(2);
const { property, examples } = properties[name];
const result = fc.check(property, {
  examples,
  numRuns: Number.MAX_SAFE_INTEGER,
  interruptAfterTimeLimit: Number(seconds) * 1000,
  markInterruptAsFailure: false,
});
if (result.failed) console.log(fc.defaultReportMessage(result));
console.log(`executions: ${result.numRuns}`);
process.exitCode = result.failed ? 1 : 0;
