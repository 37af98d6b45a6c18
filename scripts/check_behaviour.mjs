// Checks docs/behaviour.md: every behaviour names at least one test, and every test that is named exists.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { root } from './testing/run.mjs';

const document = join(root, 'docs', 'behaviour.md');
const text = readFileSync(document, 'utf8');
const problems = [];

/** Vitest's tests, each named behind its groups. */
function vitestTests(files) {
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const result = spawnSync(
    process.execPath,
    [
      vitest,
      'list',
      '--project=netverdict',
      ...files.map((file) => relative(root, file)),
      '--json', // last: it would take a file for its own output
    ],
    { cwd: root, encoding: 'utf8' },
  );
  if (result.status !== 0) throw new Error(`vitest list: ${result.stdout}${result.stderr}`);
  return JSON.parse(result.stdout);
}

const googleTest = /^TEST(?:_F|_P)?\((\w+), (\w+)\)/gm;
const googleTestNames = (file) =>
  Array.from(
    readFileSync(file, 'utf8').matchAll(googleTest),
    ([, suite, name]) => `${suite}.${name}`,
  );

/** Whether a name ends with all of the cited one, group by group. */
const isCited = (name, cited) => ` > ${name}`.endsWith(` > ${cited}`);

/** The rows of the document's tables, without their heads. */
function* behaviours() {
  for (const [index, line] of text.split('\n').entries()) {
    const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    if (cells.length < 3 || cells[1] === 'behaviour' || /^-+$/.test(cells[1])) continue;
    yield { where: `docs/behaviour.md:${index + 1}`, tests: cells.at(-2).split('<br>') };
  }
}

const files = new Map(
  Array.from(text.matchAll(/^\[([\w./]+)\]: (\S+)$/gm), ([, label, path]) => [
    label,
    join(dirname(document), path),
  ]),
);
for (const [label, path] of files) {
  if (!existsSync(path)) problems.push(`docs/behaviour.md: [${label}] leads to no file`);
}
const existing = [...files.values()].filter(existsSync);
const isScenario = (path) => path.endsWith('.ts');
const scenarios = vitestTests(existing.filter(isScenario));
const names = new Map(
  existing.map((path) => [
    path,
    isScenario(path)
      ? scenarios.filter(({ file }) => file === path).map(({ name }) => name)
      : googleTestNames(path),
  ]),
);

const rows = [...behaviours()];
const cited = new Set();
for (const { where, tests } of rows) {
  for (const test of tests) {
    const [, label, name] = /^\[([\w./]+)\] › `(.+)`$/.exec(test) ?? [];
    const path = files.get(label);
    if (path === undefined) {
      problems.push(`${where}: no test of a file that the document links: ${test}`);
    } else if (!names.get(path)?.some((existingName) => isCited(existingName, name))) {
      problems.push(`${where}: no such test: ${label} › ${name}`);
    }
    cited.add(label);
  }
}
for (const label of files.keys()) {
  if (!cited.has(label)) problems.push(`docs/behaviour.md: [${label}] is not used`);
}
if (rows.length === 0) problems.push('docs/behaviour.md: no behaviours');

for (const problem of problems) console.error(problem);
console.log(`${rows.length} behaviours, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
