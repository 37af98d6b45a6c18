// Runs the fuzzers of test/fuzz/ for some seconds each.
// libFuzzer drives those of the driver and of the capture reader, fast-check those of the library.
// Every run starts from the corpus in the repository. New inputs stay in build/fuzz/corpus/.
// A finding is an input that ends a fuzzer. It is kept, and the command that repeats it is printed.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';
import { Command, InvalidArgumentError } from 'commander';
import { run } from './testing/run.mjs';
import { provideTools } from './testing/tools.mjs';

const ROOT = join(import.meta.dirname, '..');
const BUILD = join(ROOT, 'build', 'fuzz');
const NATIVE = ['captures', 'commands', 'ioctls', 'packets', 'stateful'];
const LIBRARY = ['decoder', 'policy', 'api'];
const NAMES = [...NATIVE, ...LIBRARY];
/** A small quarantine is enough, because an input uses freed memory within milliseconds. */
const ASAN_OPTIONS =
  'quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=2';
/** Longer inputs take longer and reach no more code. */
const LONGEST_INPUT = { stateful: 768 };
const LONGEST_OTHER_INPUT = 2048;
/** A slower input runs again alone, because a busy machine may have been slow. */
const SLOW_SECONDS = 30;
/** Only an input that hangs takes so much processor time, or waits so long. */
const HANG_PROCESSOR_SECONDS = 20;
const HANG_SECONDS = 300;

const program = new Command('fuzz')
  .description('search for inputs that break the driver or the library')
  .argument('[fuzzers...]', `which: ${NAMES.join(', ')}`, NAMES)
  .option('--seconds <n>', 'how long each', positive, 60)
  .parse();
const { seconds } = program.opts();
const names = program.processedArgs[0];

function positive(text) {
  const number = Number(text);
  if (!(number > 0)) throw new InvalidArgumentError('Give a number above 0.');
  return number;
}

function execute(path, args, timeout) {
  return new Promise((resolve) => {
    const env = { ...process.env, ASAN_OPTIONS };
    const child = spawn(path, args, { env, timeout });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => (output += data));
    }
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

/** @typedef {{ name: string, executions: number, coverage: string, finding: string | undefined }} Result */

/** Whether the input takes too long also when nothing else needs the processor. */
async function hangs(path, file) {
  const limited = `ulimit -t ${HANG_PROCESSOR_SECONDS}; exec "$@"`;
  const { ok } = await execute(
    'sh',
    ['-c', limited, 'sh', path, '-timeout=0', file],
    HANG_SECONDS * 1000,
  );
  return !ok;
}

/** Runs libFuzzer until the time is over or it has a finding. */
async function runOnce(name, path, seconds) {
  const findings = join(BUILD, 'findings');
  const corpus = join(BUILD, 'corpus', name);
  for (const folder of [findings, corpus]) mkdirSync(folder, { recursive: true });
  const { ok, output } = await execute(path, [
    `-max_total_time=${seconds}`,
    `-max_len=${LONGEST_INPUT[name] ?? LONGEST_OTHER_INPUT}`,
    `-timeout=${SLOW_SECONDS}`,
    '-detect_leaks=0', // the simulated kernel finds the driver's leaks faster
    '-print_final_stats=1',
    `-artifact_prefix=${join(findings, `${name}-`)}`,
    corpus,
    join(ROOT, 'test', 'fuzz', 'corpus', name),
  ]);
  const executions = Number(/number_of_executed_units: (\d+)/.exec(output)?.[1] ?? 0);
  const coverage = output.match(/ cov: \d+/g)?.at(-1) ?? '';
  const file = /Test unit written to (\S+)/.exec(output)?.[1];
  const wasSlow = /ERROR: libFuzzer: timeout/.test(output) && file !== undefined;
  const repeat = file === undefined ? '' : `\nRepeat it: ${path} ${file}`;
  const finding =
    ok || (wasSlow && !(await hangs(path, file))) ? undefined : `${output.slice(-4000)}${repeat}`;
  return { executions, coverage: coverage.replace(' cov: ', ''), finding, wasSlow };
}

/** @returns {Promise<Result>} */
async function runNative(name) {
  const path = join(BUILD, 'test', 'fuzz', `fuzz_${name}`);
  const end = Date.now() + seconds * 1000;
  const result = { name, executions: 0, coverage: '', finding: undefined };
  for (let left = seconds; left > 0; left = Math.floor((end - Date.now()) / 1000)) {
    const { executions, coverage, finding, wasSlow } = await runOnce(name, path, left);
    result.executions += executions;
    result.coverage = coverage;
    result.finding = finding;
    if (finding !== undefined || !wasSlow) break;
  }
  return result;
}

/** @returns {Promise<Result>} */
async function runLibrary(name) {
  const path = join(ROOT, 'test', 'fuzz', 'library', 'run.mjs');
  const { ok, output } = await execute(process.execPath, [path, name, String(seconds)]);
  const executions = Number(/^executions: (\d+)$/m.exec(output)?.[1] ?? 0);
  return { name, executions, coverage: '', finding: ok ? undefined : output };
}

/** Builds the fuzzers of the driver with libFuzzer, and the addon for the fuzzer of the API with the sanitizers. */
async function build(preset, compilers, ...targets) {
  const tools = [...compilers, 'cmake', 'ninja', 'gtest', 'gmock'];
  if (provideTools(new Set(tools)).size > 0) return false;
  const jobs = String(availableParallelism());
  for (const args of [
    ['--preset', preset],
    ['--build', '--preset', preset, '--parallel', jobs, ...targets],
  ]) {
    const { ok, output } = await run('cmake', args);
    if (!ok) {
      console.log(output);
      return false;
    }
  }
  return true;
}

/** Runs as many fuzzers at once as there are processors. */
async function runAll() {
  const left = [...names];
  const results = [];
  const lane = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      results.push(await (NATIVE.includes(name) ? runNative(name) : runLibrary(name)));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
  return results.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
}

const unknown = names.filter((name) => !NAMES.includes(name));
if (unknown.length > 0)
  program.error(`No such fuzzer: ${unknown.join(', ')}. There are: ${NAMES.join(', ')}.`);
const builds = [];
if (names.some((name) => NATIVE.includes(name))) builds.push(['fuzz', ['clang-19', 'libFuzzer']]);
if (names.includes('api')) builds.push(['asan', ['g++'], '--target', 'netverdict_addon']);
for (const each of builds) {
  if (!(await build(...each))) process.exit(1);
}
const results = await runAll();
const table = new Table({ head: ['fuzzer', 'seconds', 'executions', 'edges reached', 'findings'] });
for (const { name, executions, coverage, finding } of results) {
  if (finding !== undefined) console.log(`${name}:\n${finding}\n`);
  table.push([name, seconds, executions, coverage, finding === undefined ? 0 : 1]);
}
console.log(table.toString());
const failed = results.filter(
  ({ executions, finding }) => finding !== undefined || executions === 0,
).length;
console.log(`${results.length - failed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed === 0 ? 0 : 1;
