// Runs the fuzzers of test/fuzz/ for some seconds each: those of the driver and of the reading of captures by libFuzzer,
// those of the library by fast-check. Every run starts from the corpus in the repository; what it adds stays in
// build/fuzz/corpus/. A finding is an input that ends a fuzzer: it is kept, and the way to repeat it is printed.
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
const LIBRARY = ['decoder', 'policy'];
const NAMES = [...NATIVE, ...LIBRARY];
const LONGEST_INPUT = 2048;
/** Longer than any input takes on a busy machine: what takes more hangs. */
const HANG_SECONDS = 30;

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

function execute(path, args) {
  return new Promise((resolve) => {
    const env = { ...process.env, ASAN_OPTIONS: 'quarantine_size_mb=8:malloc_context_size=5' };
    const child = spawn(path, args, { env });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => (output += data));
    }
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

/** @typedef {{ name: string, executions: number, coverage: string, finding: string | undefined }} Result */

/** @returns {Promise<Result>} */
async function runNative(name) {
  const path = join(BUILD, 'test', 'fuzz', `fuzz_${name}`);
  const findings = join(BUILD, 'findings');
  const corpus = join(BUILD, 'corpus', name);
  for (const folder of [findings, corpus]) mkdirSync(folder, { recursive: true });
  const { ok, output } = await execute(path, [
    `-max_total_time=${seconds}`,
    `-max_len=${LONGEST_INPUT}`,
    `-timeout=${HANG_SECONDS}`,
    '-detect_leaks=0', // what the driver leaks the simulated kernel finds, faster
    '-print_final_stats=1',
    `-artifact_prefix=${join(findings, `${name}-`)}`,
    corpus,
    join(ROOT, 'test', 'fuzz', 'corpus', name),
  ]);
  const executions = Number(/number_of_executed_units: (\d+)/.exec(output)?.[1] ?? 0);
  const coverage = output.match(/ cov: \d+/g)?.at(-1) ?? '';
  const file = /Test unit written to (\S+)/.exec(output)?.[1];
  const repeat = file === undefined ? '' : `\nRepeat it: ${path} ${file}`;
  const finding = ok ? undefined : `${output.slice(-4000)}${repeat}`;
  return { name, executions, coverage: coverage.replace(' cov: ', ''), finding };
}

/** @returns {Promise<Result>} */
async function runLibrary(name) {
  const path = join(ROOT, 'test', 'fuzz', 'library', 'run.mjs');
  const { ok, output } = await execute(process.execPath, [path, name, String(seconds)]);
  const executions = Number(/^executions: (\d+)$/m.exec(output)?.[1] ?? 0);
  return { name, executions, coverage: '', finding: ok ? undefined : output };
}

async function build() {
  const missing = provideTools(
    new Set(['clang-19', 'libFuzzer', 'cmake', 'ninja', 'gtest', 'gmock']),
  );
  if (missing.size > 0) return false;
  const jobs = String(availableParallelism());
  for (const args of [
    ['--preset', 'fuzz'],
    ['--build', '--preset', 'fuzz', '--parallel', jobs],
  ]) {
    const { ok, output } = await run('cmake', args);
    if (!ok) {
      console.log(output);
      return false;
    }
  }
  return true;
}

/** As many at once as there are processors. */
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
if (names.some((name) => NATIVE.includes(name)) && !(await build())) process.exit(1);
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
