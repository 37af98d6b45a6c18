// `npm test` runs every check of the project, two groups side by side.
// `npm test -- lint vitest` runs only those groups. `--verbose` prints all of their output.
// `npm run test:long` runs the groups that take too long for every change (`--long`).
// The last line is always `N passed, N failed, N skipped`.
import { rmSync, mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { groups, longStages, stages } from './testing/groups.mjs';
import { outputDirectory } from './testing/run.mjs';
import { provideTools } from './testing/tools.mjs';

const inCi = Boolean(process.env.CI) && process.env.CI !== 'false';
const { values: flags, positionals: named } = parseArgs({
  options: { verbose: { type: 'boolean' }, long: { type: 'boolean' } },
  allowPositionals: true,
});
const total = { passed: 0, failed: 0, skipped: 0 };
/** What failed groups printed. It is shown last, where one looks first. */
const failures = [];

/** The named groups, or else all groups of the stages. */
function selectGroups(names, allStages) {
  const unknown = names.filter((name) => !(name in groups));
  if (unknown.length > 0) {
    console.error(
      `No such group: ${unknown.join(', ')}. Groups: ${Object.keys(groups).join(', ')}.`,
    );
    process.exit(2);
  }
  return new Set(names.length > 0 ? names : allStages.flat(2));
}

function report(name, counts, seconds, { log = '', remarks = [] } = {}) {
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  if (counts.failed > 0) failures.push(`✗ ${name}\n${log.trimEnd()}`);
  else if (flags.verbose) console.log(log.trimEnd());
  const mark = counts.failed > 0 ? '✗' : counts.passed > 0 ? '✓' : '-';
  console.log(
    `${mark} ${name.padEnd(8)} ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped ` +
      `(${seconds.toFixed(1)} s)${counts.note ? `: ${counts.note}` : ''}`,
  );
  for (const remark of remarks) console.log(`  ${remark}`);
}

async function runGroup(name, missing) {
  const { needs = [], run } = groups[name];
  const absent = needs.filter((tool) => missing.has(tool));
  if (absent.length > 0) {
    const note = `needs ${absent.map((tool) => missing.get(tool)).join(', ')}`;
    report(name, { passed: 0, failed: inCi ? 1 : 0, skipped: inCi ? 0 : 1, note }, 0);
    return;
  }
  const start = performance.now();
  const { counts, ...said } = await run();
  report(name, counts, (performance.now() - start) / 1000, said);
}

async function runSequence(names, selected, missing) {
  for (const name of names) {
    if (selected.has(name)) await runGroup(name, missing);
  }
}

const selected = selectGroups(named, flags.long ? longStages : stages);
rmSync(outputDirectory, { recursive: true, force: true });
mkdirSync(outputDirectory, { recursive: true });
const needed = new Set([...selected].flatMap((name) => groups[name].needs ?? []));
const missing = provideTools(needed);
const limit = pLimit(2);
for (const sequences of [...stages, ...longStages]) {
  await limit.map(sequences, (sequence) => runSequence(sequence, selected, missing));
}
for (const failure of failures) console.log(failure);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
