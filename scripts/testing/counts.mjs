// Counts the passed, failed and skipped tests of programs by what these report.
// A program that reports nothing, that fails without a failed test, or that runs no test, counts as one failure.
import { readFileSync } from 'node:fs';

const NOTHING_READ = { passed: 0, failed: 1, skipped: 0 };

/** The counts in a file that a program has written. */
export function readReport(path, parse) {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch {
    return NOTHING_READ;
  }
}

export function parseGtestReport(text) {
  const tests = JSON.parse(text).testsuites.flatMap(({ testsuite }) => testsuite);
  const failed = tests.filter(({ failures = [] }) => failures.length > 0).length;
  const skipped = tests.filter(({ result }) => result !== 'COMPLETED').length;
  return { passed: tests.length - failed - skipped, failed, skipped };
}

export function parseVitestReport(text) {
  const report = JSON.parse(text);
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** A remark for each test that vitest has skipped. */
export function skippedVitestTests(text) {
  return JSON.parse(text).testResults.flatMap(({ assertionResults }) =>
    assertionResults
      .filter(({ status }) => !['passed', 'failed'].includes(status))
      .map(({ fullName }) => `! skipped: ${fullName}`),
  );
}

/** The counts in the line with which a script of this project ends. */
export function parseLastLine(output) {
  const line = output.trimEnd().split('\n').at(-1);
  const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(line);
  if (counts === null) return NOTHING_READ;
  const [passed, failed, skipped] = counts.slice(1).map(Number);
  return { passed, failed, skipped };
}

/** The result of a program: its counts, its exit code and its output. */
export function withExitCode(counts, { ok, output }) {
  const failed = !ok && counts.failed === 0 ? 1 : counts.failed;
  return { counts: { ...counts, failed }, log: output };
}

/** The same result, or a failure if no test ran. */
export function ranSome(result) {
  const { passed, failed } = result.counts;
  if (passed + failed > 0) return result;
  return { ...result, counts: { ...result.counts, failed: 1 }, log: `${result.log}\nNo test ran.` };
}

/** The sum of results, with the logs of those that failed. */
export function sum(results) {
  const total = { counts: { passed: 0, failed: 0, skipped: 0 }, log: '', remarks: [] };
  for (const { counts, log, remarks = [] } of results) {
    for (const [key, count] of Object.entries(counts)) total.counts[key] += count;
    if (counts.failed > 0) total.log += log;
    total.remarks.push(...remarks);
  }
  return total;
}
