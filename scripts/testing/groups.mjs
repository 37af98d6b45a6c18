// The test groups: the programs that each needs, the commands that it runs, and its counts.
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import pLimit from 'p-limit';
import {
  parseGtestReport,
  parseLastLine,
  parseVitestReport,
  ranSome,
  readReport,
  skippedVitestTests,
  sum,
  withExitCode,
} from './counts.mjs';
import { outputDirectory, root, run, runScript } from './run.mjs';
import { sanitizedAddon, threadSanitizedAddon } from './sanitized.mjs';

const jobs = String(availableParallelism());
/** The number of processes of a test program. It exceeds the processors, because some tests take seconds. */
const SHARDS = 4 * availableParallelism();
/** Several times the time of the slowest shard, with floods in full size, on a machine that has other work. */
const SHARD_TIMEOUT_MS = 2_400_000;
/** The suites of tests that take too long for every change, and with sanitizers. */
const LONG_SUITES = '*LongTest.*';

/** Runs commands in turn and counts each as a check. A failure does not stop the later ones. */
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

/** Configures a CMake preset and builds targets of it, or all of it. */
function build(preset, ...targets) {
  const chosen = targets.flatMap((target) => ['--target', target]);
  return untilFailure([
    () => run('cmake', ['--preset', preset]),
    () => run('cmake', ['--build', '--preset', preset, '--parallel', jobs, ...chosen]),
  ]);
}

const buildFailure = ({ output }) => ({
  counts: { passed: 0, failed: 1, skipped: 0 },
  log: output,
});

/** Runs one of `of` equal parts of a test program's tests. */
async function gtestShard(program, filter, shard, of) {
  const path = join(outputDirectory, `${program.replaceAll('/', '-')}-${shard}.json`);
  const result = await run(
    join(root, 'build', program),
    [`--gtest_output=json:${path}`, `--gtest_filter=${filter}`],
    { GTEST_TOTAL_SHARDS: of, GTEST_SHARD_INDEX: shard },
    SHARD_TIMEOUT_MS,
  );
  const passed = /^\[ RUN {6}\] .*\n\[ {7}OK \] .*\n/gm;
  const output = result.output.replaceAll(passed, '');
  return withExitCode(readReport(path, parseGtestReport), { ...result, output });
}

/**
 * Builds targets of a CMake preset, and runs those tests of its test programs that match the filter.
 * A process runs many tests. With sanitizers a process for each, as in ctest, takes longer than the test itself.
 */
async function gtest(preset, filter, programs, ...targets) {
  const built = await build(preset, ...targets);
  if (!built.ok) return buildFailure(built);
  const limit = pLimit(availableParallelism());
  const runProgram = async (program) => {
    const shards = Array.from({ length: SHARDS }, (_, shard) =>
      limit(() => gtestShard(`${preset}/test/${program}`, filter, shard, SHARDS)),
    );
    return ranSome(sum(await Promise.all(shards)));
  };
  return sum(await Promise.all(programs.map(runProgram)));
}

/** Runs the tests of a project, in all of its folders or in some. `environment` adds variables to the process. */
async function vitest(project, folders = [], environment = {}) {
  const path = join(outputDirectory, `vitest-${project}${folders.length}.json`);
  const args = ['run', `--project=${project}`, '--reporter=dot', '--reporter=json'];
  const result = await runScript(
    'vitest/vitest.mjs',
    [...args, `--outputFile=${path}`, ...folders],
    environment,
  );
  const remarks = existsSync(path) ? skippedVitestTests(readFileSync(path, 'utf8')) : [];
  return { ...ranSome(withExitCode(readReport(path, parseVitestReport), result)), remarks };
}

/** Runs the scenarios with an addon that is built with the sanitizers. */
async function sanitizedScenarios() {
  const built = await build('asan', 'netverdict_addon');
  return built.ok
    ? vitest('netverdict', ['test/scenarios', 'test/lifecycle'], sanitizedAddon())
    : buildFailure(built);
}

/** Runs a script whose last line has the counts. */
async function countedScript(path, ...args) {
  const result = await run(process.execPath, [path, ...args]);
  return ranSome(withExitCode(parseLastLine(result.output), result));
}

/** Builds the drivers and runs them under Wine. */
async function wine() {
  const built = await untilFailure([
    () => build('sim-wine'),
    () => run('npm', ['run', 'prebuild', '--', 'win32-x64']),
  ]);
  if (!built.ok) return buildFailure(built);
  const result = await countedScript('test/wine/run.mjs');
  const lines = result.log.split('\n');
  const isRemark = (line) => line.startsWith('! ');
  return {
    ...result,
    log: lines.filter((line) => !isRemark(line)).join('\n'),
    remarks: lines.filter(isRemark),
  };
}

/** Builds the driver's binary, and checks what Windows requires of it. */
async function mingw() {
  const built = await build('kext-mingw');
  return built.ok ? vitest('windows') : buildFailure(built);
}

const UNIT_TEST_TARGETS = ['kext', 'sim', 'addon'].map((part) => `${part}_tests`);
const UNIT_TESTS = UNIT_TEST_TARGETS.map((target) => `unit/${target}`);

const THREADED_TEST_TARGETS = ['stress_tests', 'addon_tests'];
const THREADED_TESTS = ['stress/stress_tests', 'unit/addon_tests'];

const typescript = (project) => runScript('typescript/bin/tsc', ['--project', project, '--noEmit']);

export const groups = {
  build: {
    needs: ['python3', 'make', 'g++'],
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
        () => run(process.execPath, ['scripts/check_ladder.mjs']),
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
  vitest: { needs: ['python3', 'make', 'g++', 'tshark', 'ip'], run: () => vitest('netverdict') },
  package: {
    needs: ['python3', 'make', 'g++', 'cmake', 'ninja', 'x86_64-w64-mingw32-g++-posix'],
    run: () => vitest('package'),
  },
  models: { needs: ['spin', 'g++'], run: () => countedScript('scripts/models.mjs') },
  fuzz: {
    needs: ['clang-19', 'libFuzzer', 'g++', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: () => countedScript('scripts/fuzz.mjs', '--seconds', '60'),
  },
  soak: {
    needs: ['python3', 'make', 'g++'],
    run: () =>
      checks(() => run(process.execPath, ['test/soak/run.mjs', '--minutes', '1', '--seed', '1'])),
  },
  unit: {
    needs: ['clang-19', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: () => gtest('host', `-${LONG_SUITES}`, UNIT_TESTS, ...UNIT_TEST_TARGETS),
  },
  floods: {
    needs: ['clang-19', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: () => gtest('host', LONG_SUITES, ['unit/kext_tests'], 'kext_tests'),
  },
  asan: {
    needs: ['clang-19', 'libFuzzer', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: () => gtest('asan', `-${LONG_SUITES}`, UNIT_TESTS, ...UNIT_TEST_TARGETS),
  },
  scenarios: {
    needs: ['clang-19', 'libFuzzer', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: sanitizedScenarios,
  },
  tsan: {
    needs: ['g++', 'cmake', 'ninja', 'gtest', 'gmock'],
    run: async () =>
      sum([
        await gtest('tsan', '*', THREADED_TESTS, ...THREADED_TEST_TARGETS, 'netverdict_addon'),
        await checks(() =>
          run(process.execPath, ['test/stress/addon.mjs'], threadSanitizedAddon()),
        ),
      ]),
  },
  faults: {
    needs: ['clang-19', 'libFuzzer', 'cmake', 'ninja', 'gtest', 'gmock'],
    // Only the driver's tests: the scenarios take minutes.
    run: () => countedScript('scripts/faults.mjs', '--test='),
  },
  mingw: {
    needs: ['cmake', 'ninja', 'x86_64-w64-mingw32-gcc'],
    run: mingw,
  },
  compilers: {
    needs: ['cmake', 'ninja', 'x86_64-w64-mingw32-gcc', 'clang-19', 'lld-link-19'],
    run: () => vitest('compilers'),
  },
  wine: {
    needs: ['cmake', 'ninja', 'x86_64-w64-mingw32-g++-posix', 'wine', 'wine64'],
    run: wine,
  },
  tidy: {
    needs: ['clang-tidy-19'],
    run: () => countedScript('scripts/tidy.mjs'),
  },
};

/** Two sequences run at a time. A group needs the results of those before it in its sequence. */
export const stages = [
  [['build'], ['format']],
  [
    ['mingw', 'wine'], // they use one build of the driver
    ['unit'],
    ['vitest'],
    ['lint'],
    ['soak'],
    ['docs'],
  ],
];

/** `npm run test:long`: what takes too long for every change. It needs what `npm test` has built. */
export const longStages = [
  [
    ['asan', 'scenarios', 'faults', 'fuzz'], // they use one build; the last runs the addon of the second
    ['tsan'],
    ['package'], // packs the prebuilds/ that `wine` has filled
    ['compilers'],
    ['floods'],
    ['models'],
    ['tidy'],
  ],
];
