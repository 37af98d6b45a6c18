// Runs every benchmark beside its peer, and prints a table of medians with spread, ratio and goal.
// `npm run bench -- native` and `npm run bench -- js` run one half.
// It fails if a median misses its goal.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { provideTools } from '../scripts/testing/tools.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command, args, options = {}) =>
  execFileSync(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'], ...options });

function nativeResults() {
  run('cmake', ['--preset', 'bench']);
  run('cmake', ['--build', '--preset', 'bench']);
  const output = join(root, 'build', 'bench', 'results.json');
  run(join(root, 'build', 'bench', 'bench', 'netverdict_bench'), [
    '--benchmark_repetitions=5',
    '--benchmark_enable_random_interleaving=true',
    `--benchmark_out=${output}`,
    '--benchmark_out_format=json',
  ]);
  const { benchmarks } = JSON.parse(readFileSync(output, 'utf8'));
  const samplesOf = (name) =>
    benchmarks
      .filter((b) => b.run_type === 'iteration' && b.run_name === name)
      .map((b) => b.real_time);
  return JSON.parse(readFileSync(new URL('native/table.json', import.meta.url), 'utf8')).map(
    (row) => ({
      name: row.name,
      unit: 'ns',
      better: 'lower',
      goal: row.goal,
      samples: samplesOf(row.ours),
      peer: row.peer,
      peerSamples: samplesOf(row.theirs),
    }),
  );
}

function javaScriptResults() {
  run('node-gyp', ['rebuild', '--directory', 'bench/peer']); // npm puts it on PATH
  return ['events', 'verdicts', 'flood'].flatMap((name) => {
    const module = new URL(`js/${name}.mjs`, import.meta.url).href;
    const script = `const { results } = await import(${JSON.stringify(module)}); console.log(JSON.stringify(results));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: 1 << 28,
    });
    return JSON.parse(output.toString());
  });
}

function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const digits = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });

function figure(samples, unit) {
  return `${digits.format(median(samples))} ${unit} (${digits.format(Math.min(...samples))} … ${digits.format(Math.max(...samples))})`;
}

function missesGoal({ goal, better, samples }) {
  if (goal === undefined) return false;
  return better === 'lower' ? median(samples) > goal : median(samples) < goal;
}

function verdictOnGoal(row) {
  const { goal, better, unit } = row;
  if (goal === undefined) return '';
  return `${better === 'lower' ? '≤' : '≥'} ${digits.format(goal)} ${unit}: ${missesGoal(row) ? 'NOT REACHED' : 'reached'}`;
}

function ratio({ better, samples, peerSamples }) {
  const [ours, theirs] = [median(samples), median(peerSamples)];
  return `${digits.format(better === 'lower' ? theirs / ours : ours / theirs)} ×`;
}

if (provideTools(['cmake', 'ninja', 'g++', 'make', 'benchmark']).size > 0) process.exit(1);
const halves = { native: nativeResults, js: javaScriptResults };
const chosen = process.argv[2] ? [process.argv[2]] : Object.keys(halves);
const results = chosen.flatMap((half) => halves[half]());
const missing = results.filter((row) => row.samples.length === 0 || row.peerSamples.length === 0);
if (missing.length > 0) {
  throw new Error(`no samples for: ${missing.map((row) => row.name).join(', ')}`);
}
const table = new Table({
  head: [
    'benchmark',
    'netverdict, median (min … max)',
    'peer',
    'peer, median (min … max)',
    'ratio',
    'goal',
  ],
  style: { head: [], border: [] },
});
for (const row of results) {
  table.push([
    row.name,
    figure(row.samples, row.unit),
    row.peer,
    figure(row.peerSamples, row.unit),
    ratio(row),
    verdictOnGoal(row),
  ]);
}
console.log(table.toString());
mkdirSync(join(root, 'build', 'bench'), { recursive: true });
writeFileSync(join(root, 'build', 'bench', 'table.json'), `${JSON.stringify(results, null, 2)}\n`);
const missed = results.filter(missesGoal);
if (missed.length > 0) {
  console.error(`Goals not reached: ${missed.map((row) => row.name).join('; ')}`);
  process.exitCode = 1;
}
