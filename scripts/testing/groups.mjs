// The test groups: what each needs, runs and counts.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { outputDirectory, run, runScript } from './run.mjs';

const jobs = String(availableParallelism());

/** Runs commands in turn, each one counted as a check; later ones run even where an earlier one failed. */
async function checks(...commands) {
  const results = [];
  for (const command of commands) results.push(await command());
  const failed = results.filter((result) => !result.ok);
  return {
    counts: { passed: results.length - failed.length, failed: failed.length, skipped: 0 },
    log: failed.map((result) => result.output).join('\n'),
  };
}

async function untilFailure(commands) {
  let output = '';
  for (const command of commands) {
    const result = await command();
    output += result.output;
    if (!result.ok) return { ok: false, output };
  }
  return { ok: true, output };
}

/** `complete` is false where the test program failed without naming a failed test: that counts as a failure. */
function withExitCode(counts, result) {
  const failed = !result.ok && counts.failed === 0 ? 1 : counts.failed;
  return { counts: { ...counts, failed }, log: result.output };
}

function readReport(path, parse) {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

function parseCtestReport(text) {
  const count = (name) => Number(new RegExp(`<testsuite[^>]*\\b${name}="(\\d+)"`).exec(text)[1]);
  const failed = count('failures');
  const skipped = count('skipped') + count('disabled');
  return { passed: count('tests') - failed - skipped, failed, skipped };
}

function parseVitestReport(text) {
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

/** Configures, builds and tests one CMake preset. */
async function ctest(preset) {
  const built = await untilFailure([
    () => run('cmake', ['--preset', preset]),
    () => run('cmake', ['--build', '--preset', preset, '--parallel', jobs]),
  ]);
  if (!built.ok) return { counts: { passed: 0, failed: 1, skipped: 0 }, log: built.output };
  const path = join(outputDirectory, `ctest-${preset}.xml`);
  const args = ['--preset', preset, '--output-on-failure', '--parallel', jobs];
  const result = await run('ctest', [...args, '--output-junit', path]);
  return withExitCode(readReport(path, parseCtestReport), result);
}

async function vitest(project) {
  const path = join(outputDirectory, `vitest-${project}.json`);
  const result = await runScript('vitest/vitest.mjs', [
    'run',
    `--project=${project}`,
    '--reporter=dot',
    '--reporter=json',
    `--outputFile=${path}`,
  ]);
  return withExitCode(readReport(path, parseVitestReport), result);
}

/** A script whose last line tells the counts. */
async function countedScript(path) {
  const result = await run(process.execPath, [path]);
  const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/m.exec(
    result.output.trimEnd().split('\n').at(-1),
  );
  if (counts === null) return withExitCode({ passed: 0, failed: 1, skipped: 0 }, result);
  const [passed, failed, skipped] = counts.slice(1).map(Number);
  return withExitCode({ passed, failed, skipped }, result);
}

/** Builds the drivers and runs them under Wine. */
async function wine() {
  const built = await untilFailure([
    () => run('cmake', ['--preset', 'sim-wine']),
    () => run('cmake', ['--build', '--preset', 'sim-wine', '--parallel', jobs]),
    () => run('npm', ['run', 'prebuild', '--', 'win32-x64']),
  ]);
  if (!built.ok) return { counts: { passed: 0, failed: 1, skipped: 0 }, log: built.output };
  return countedScript('test/wine/run.mjs');
}

/** Builds the driver's binary and looks at what Windows asks of it. */
async function mingw() {
  const built = await untilFailure([
    () => run('cmake', ['--preset', 'kext-mingw']),
    () => run('cmake', ['--build', '--preset', 'kext-mingw', '--parallel', jobs]),
  ]);
  if (!built.ok) return { counts: { passed: 0, failed: 1, skipped: 0 }, log: built.output };
  return vitest('windows');
}

const typescript = (project) => runScript('typescript/bin/tsc', ['--project', project, '--noEmit']);

export const groups = {
  build: {
    needs: ['make', 'g++'],
    run: () =>
      checks(
        () => run('npm', ['run', 'compile']),
        () => run('npm', ['run', 'build:addon']),
      ),
  },
  lint: {
    run: () =>
      checks(
        () => typescript('tsconfig.json'),
        () => typescript('test/tsconfig.json'),
        () => runScript('eslint/bin/eslint.js', ['--max-warnings=0', '.']),
      ),
  },
  format: {
    needs: ['clang-format-19'],
    run: () => checks(() => run(process.execPath, ['scripts/format.mjs', '--check'])),
  },
  docs: {
    run: () =>
      checks(
        () => runScript('typedoc/bin/typedoc', []),
        () => run(process.execPath, ['scripts/check_named_tests.mjs']),
      ),
  },
  vitest: { needs: ['make', 'g++', 'tshark', 'ip'], run: () => vitest('netverdict') },
  package: { needs: ['make', 'g++'], run: () => vitest('package') },
  models: { needs: ['spin', 'g++'], run: () => countedScript('scripts/models.mjs') },
  soak: {
    needs: ['make', 'g++'],
    run: () =>
      checks(() => run(process.execPath, ['test/soak/run.mjs', '--minutes', '1', '--seed', '1'])),
  },
  asan: { needs: ['g++', 'cmake', 'ninja', 'gtest', 'gmock'], run: () => ctest('asan') },
  mingw: {
    needs: ['cmake', 'ninja', 'x86_64-w64-mingw32-gcc', 'clang-19', 'lld-link-19'],
    run: mingw,
  },
  wine: {
    needs: ['cmake', 'ninja', 'x86_64-w64-mingw32-g++-posix', 'wine', 'wine64'],
    run: wine,
  },
};

/** Groups of one lane run one after another; the lanes run side by side. */
export const lanes = [
  ['build', 'vitest', 'package', 'lint', 'docs', 'models', 'soak'],
  ['format', 'mingw', 'wine', 'asan'],
];
