// Runs test files with vitest's runner in this Node.js: `node run_tests.mjs <report.json> <file>...`.
// The report is a list of {file, name, state, milliseconds, error?}; state is passed, failed or skipped.
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startTests } from '@vitest/runner';
import { notUnderWine } from '../not_under_wine.js';

const TEST_LIMIT_MS = 60_000;

const [reportPath, ...files] = process.argv.slice(2);
const results = [];

function* testsOf(task) {
  if (task.type === 'test') yield task;
  else for (const inner of task.tasks) yield* testsOf(inner);
}

/** Returns the test file's name in the sources. */
function fileName(file) {
  return basename(file.filepath).replace(/\.js$/, '.ts');
}

function fullName(task) {
  const names = [];
  for (let at = task; at !== undefined && at.type !== undefined; at = at.suite) {
    if (at.filepath === undefined) names.unshift(at.name);
  }
  return names.join(' > ');
}

function skipWhatWineCannotShow(file) {
  const excluded = notUnderWine.filter((entry) => entry.file === fileName(file));
  for (const task of testsOf(file)) {
    if (excluded.some((entry) => entry.test === task.name)) task.mode = 'skip';
  }
}

function report() {
  writeFileSync(reportPath, JSON.stringify(results, null, 1));
}

function resultOf(task) {
  const state = { pass: 'passed', fail: 'failed' }[task.result?.state] ?? 'skipped';
  const error = task.result?.errors?.map((problem) => problem.stack ?? problem.message).join('\n');
  return {
    file: fileName(task.file),
    name: fullName(task),
    state,
    milliseconds: Math.round(task.result?.duration ?? 0),
    ...(error === undefined ? {} : { error }),
  };
}

class Runner {
  config = {
    root: process.cwd(),
    setupFiles: [],
    passWithNoTests: false,
    sequence: { hooks: 'stack', setupFiles: 'list', shuffle: false, concurrent: false, seed: 1 },
    maxConcurrency: 1,
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
    retry: 0,
    tags: [],
  };

  importFile(path) {
    return import(pathToFileURL(path).href);
  }

  onCollected(collected) {
    collected.forEach(skipWhatWineCannotShow);
  }

  // Writes the results of finished tests, in case a later test ends the process.
  onAfterRunTask(task) {
    results.push(resultOf(task));
    report();
  }
}

const ran = await startTests(files, new Runner());
for (const file of ran) {
  for (const task of testsOf(file)) {
    if (task.result?.state === undefined || task.mode === 'skip') results.push(resultOf(task));
  }
  const errors = file.result?.errors ?? [];
  if (errors.length > 0) {
    const error = errors.map((problem) => problem.stack ?? problem.message).join('\n');
    results.push({
      file: fileName(file),
      name: '',
      state: 'failed',
      milliseconds: 0,
      error,
    });
  }
}
report();
process.exit(results.some((result) => result.state === 'failed') ? 1 : 0);
