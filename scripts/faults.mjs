// Makes each fallible call of the driver fail once.
// It does so over the driver's tests (test/faults/main.cc) and the scenarios (test/faults/environment.cc).
// Both are built with the sanitizers.
// With arguments it runs only the driver's tests: `--test=SUITE.NAME`, or a part of it, `--stack=HASH`.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseLastLine, ranSome, withExitCode } from './testing/counts.mjs';
import { root, run, runScript } from './testing/run.mjs';
import { sanitizedAddon } from './testing/sanitized.mjs';
import { provideTools } from './testing/tools.mjs';

const PROGRAM = join(root, 'build', 'asan', 'test', 'unit', 'kext_faults');
/**
 * The output of the kernel, the observer, the sanitizers and the test runner after a failed call that did harm.
 * A failed test is no harm: the driver may decide by its fail policy, or count an awaited event as lost.
 */
const HARM =
  /BUGCHECK|INVARIANT|AddressSanitizer|runtime error:|Hook timed out|exited unexpectedly|terminated/;
/**
 * Longer than a scenario takes. A scenario that waits for a prevented event ends after this time.
 * The observer finds packets that stay held when the simulator is closed.
 */
const TEST_TIMEOUT_MS = 3000;

async function build() {
  const jobs = String(availableParallelism());
  const targets = ['--target', 'kext_faults', '--target', 'netverdict_addon'];
  for (const args of [
    ['--preset', 'asan'],
    ['--build', '--preset', 'asan', ...targets, '--parallel', jobs],
  ]) {
    const { ok, output } = await run('cmake', args);
    if (!ok) throw new Error(output);
  }
}

/** Runs the scenarios again and again, until no call stack is new. */
async function injectIntoScenarios() {
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-faults-'));
  const environment = { ...sanitizedAddon(), NETVERDICT_FAULTS: folder };
  const arguments_ = ['run', '--project=netverdict', '--reporter=dot', 'test/scenarios'];
  let runs = 0;
  let failed = 0;
  try {
    for (let before = -1; before !== readdirSync(folder).length; runs++) {
      before = readdirSync(folder).length;
      const { output } = await runScript(
        'vitest/vitest.mjs',
        [...arguments_, `--testTimeout=${TEST_TIMEOUT_MS}`],
        environment,
      );
      if (!HARM.test(output) && /Test Files/.test(output)) continue;
      console.log(output);
      failed++;
    }
    return { runs, failed, injected: readdirSync(folder).length };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const missing = provideTools(new Set(['g++', 'cmake', 'ninja', 'gtest', 'gmock']));
if (missing.size > 0) process.exit(1);
await build();
const result = await run(PROGRAM, process.argv.slice(2));
console.log(result.output.trimEnd());
let { passed, failed, skipped } = ranSome(
  withExitCode(parseLastLine(result.output), result),
).counts;
if (process.argv.length === 2) {
  const scenarios = await injectIntoScenarios();
  console.log(`scenarios: ${scenarios.injected} faults injected, ${scenarios.runs} runs`);
  passed += scenarios.injected - Math.min(scenarios.failed, scenarios.injected);
  failed += scenarios.failed + (scenarios.injected === 0 ? 1 : 0);
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
