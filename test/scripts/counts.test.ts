/** The counts of a test run: a run that shows nothing must not look like one that passed. */

import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface Result {
  readonly counts: Counts;
  readonly log: string;
}

interface Script {
  readonly readReport: (path: string, parse: (text: string) => Counts) => Counts;
  readonly parseGtestReport: (text: string) => Counts;
  readonly parseVitestReport: (text: string) => Counts;
  readonly skippedVitestTests: (text: string) => string[];
  readonly parseLastLine: (output: string) => Counts;
  readonly withExitCode: (counts: Counts, result: { ok: boolean; output: string }) => Result;
  readonly ranSome: (result: Result) => Result;
}

const path = join(import.meta.dirname, '..', '..', 'scripts', 'testing', 'counts.mjs');
const script = (await import(pathToFileURL(path).href)) as Script;
const { parseGtestReport, parseLastLine, parseVitestReport, ranSome, readReport, withExitCode } =
  script;

const NOTHING_READ = { passed: 0, failed: 1, skipped: 0 };

describe('a program', () => {
  it('that fails without a failed test counts as one failure', () => {
    const counts = { passed: 3, failed: 0, skipped: 0 };
    expect(withExitCode(counts, { ok: false, output: 'x' }).counts.failed).toBe(1);
    expect(withExitCode(counts, { ok: true, output: 'x' }).counts.failed).toBe(0);
  });

  it('that runs no test counts as one failure, even if it skips some', () => {
    for (const skipped of [0, 5]) {
      const result = ranSome({ counts: { passed: 0, failed: 0, skipped }, log: '' });
      expect(result).toEqual({ counts: { passed: 0, failed: 1, skipped }, log: '\nNo test ran.' });
    }
  });

  it('that runs a test counts as it is', () => {
    const result = { counts: { passed: 1, failed: 0, skipped: 0 }, log: 'x' };
    expect(ranSome(result)).toBe(result);
  });

  it('that writes no report, or none that can be read, counts as one failure', () => {
    expect(readReport('/no-such-file', parseVitestReport)).toEqual(NOTHING_READ);
    expect(readReport(path, parseVitestReport)).toEqual(NOTHING_READ);
  });

  it('whose last line has no counts counts as one failure', () => {
    expect(parseLastLine('2 passed, 0 failed, 0 skipped\nnot the end\n')).toEqual(NOTHING_READ);
    expect(parseLastLine('x\n2 passed, 3 failed, 4 skipped\n')).toEqual({
      passed: 2,
      failed: 3,
      skipped: 4,
    });
  });
});

describe('the counts of', () => {
  it('GoogleTest have every test of every suite', () => {
    const report = {
      testsuites: [
        { testsuite: [{ result: 'COMPLETED' }, { result: 'COMPLETED', failures: [{}] }] },
        { testsuite: [{ result: 'SKIPPED' }, { result: 'COMPLETED' }] },
      ],
    };
    expect(parseGtestReport(JSON.stringify(report))).toEqual({ passed: 2, failed: 1, skipped: 1 });
  });

  const report = JSON.stringify({
    numPassedTests: 1,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 0,
    testResults: [
      { status: 'failed', assertionResults: [] },
      {
        status: 'passed',
        assertionResults: [
          { status: 'passed', fullName: 'this runs' },
          { status: 'skipped', fullName: 'this does not' },
        ],
      },
    ],
  });

  it('vitest have a failure for each file that cannot be loaded', () => {
    expect(parseVitestReport(report)).toEqual({ passed: 1, failed: 1, skipped: 1 });
  });

  it('vitest name what was skipped', () => {
    expect(script.skippedVitestTests(report)).toEqual(['! skipped: this does not']);
  });
});
