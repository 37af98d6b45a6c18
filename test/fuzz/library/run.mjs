// A fuzzer of the library, by fast-check: `node test/fuzz/library/run.mjs decoder 60`. Ends with an error and the
// smallest input that breaks the property; otherwise says how many inputs held it.
import fc from 'fast-check';
import { decoderKeepsItsPromises } from './decoder.mjs';
import { policyKeepsItsPromises } from './policy.mjs';

const properties = { decoder: decoderKeepsItsPromises, policy: policyKeepsItsPromises };

const [name, seconds] = process.argv.slice(2);
const result = fc.check(properties[name], {
  numRuns: Number.MAX_SAFE_INTEGER,
  interruptAfterTimeLimit: Number(seconds) * 1000,
  markInterruptAsFailure: false,
});
if (result.failed) console.log(fc.defaultReportMessage(result));
console.log(`executions: ${result.numRuns}`);
process.exitCode = result.failed ? 1 : 0;
