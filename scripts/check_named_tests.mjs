// Checks the documents whose tables name tests: every row names at least one, and every test that is named exists; and the
// changelog, where every `SuiteTest.Test` exists.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { root } from './testing/run.mjs';

const DOCUMENTS = ['docs/behaviour.md', 'docs/reliability.md', 'docs/threat-model.md'];
const HEADS = ['behaviour', 'invariant', 'rule', 'threat']; // of the tables that name tests
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

const googleTest = /^TEST(?:_F|_P)?\((\w+),\s+(\w+)\)/gm;
const googleTestNames = (file) =>
  Array.from(
    readFileSync(file, 'utf8').matchAll(googleTest),
    ([, suite, name]) => `${suite}.${name}`,
  );

/** Whether a name ends with all of the cited one, group by group. */
const isCited = (name, cited) => ` > ${name}`.endsWith(` > ${cited}`);

/** The rows of a document's tables that name tests, without their heads. */
function* rowsOf(name, text) {
  let head;
  for (const [index, line] of text.split('\n').entries()) {
    const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    if (cells.length < 3) {
      head = undefined;
      continue;
    }
    head ??= cells[1];
    if (!HEADS.includes(head) || cells[1] === head || /^-+$/.test(cells[1])) continue;
    yield { where: `${name}:${index + 1}`, tests: cells.at(-2).split('<br>') };
  }
}

/** Returns how many rows there are. */
function check(name) {
  const text = readFileSync(join(root, name), 'utf8');
  const files = new Map(
    Array.from(text.matchAll(/^\[([\w./]+)\]: (\S+)$/gm), ([, label, path]) => [
      label,
      join(root, dirname(name), path),
    ]),
  );
  for (const [label, path] of files) {
    if (!existsSync(path)) problems.push(`${name}: [${label}] leads to no file`);
  }
  const names = namesOf([...files.values()].filter(existsSync));
  const rows = [...rowsOf(name, text)];
  const cited = new Set();
  for (const { where, tests } of rows) {
    for (const test of tests) {
      const [, label, title] = /^\[([\w./]+)\] › `(.+)`$/.exec(test) ?? [];
      const path = files.get(label);
      if (path === undefined) {
        problems.push(`${where}: no test of a file that the document links: ${test}`);
      } else if (!names.get(path)?.some((existingName) => isCited(existingName, title))) {
        problems.push(`${where}: no such test: ${label} › ${title}`);
      }
      cited.add(label);
    }
  }
  for (const label of files.keys()) {
    if (!cited.has(label)) problems.push(`${name}: [${label}] is not used`);
  }
  if (rows.length === 0) problems.push(`${name}: no rows`);
  return rows.length;
}

/** The tests of each file. */
function namesOf(paths) {
  const isVitest = (path) => path.endsWith('.ts');
  const vitest = paths.some(isVitest) ? vitestTests(paths.filter(isVitest)) : [];
  return new Map(
    paths.map((path) => [
      path,
      isVitest(path)
        ? vitest.filter(({ file }) => file === path).map(({ name }) => name)
        : googleTestNames(path),
    ]),
  );
}

/** Returns how many tests the changelog names. */
function checkChangelog(name) {
  const sources = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' });
  const existing = new Set(
    sources
      .filter((path) => path.endsWith('.cc'))
      .flatMap((path) => googleTestNames(join(root, 'test', path))),
  );
  const named = Array.from(
    readFileSync(join(root, name), 'utf8').matchAll(/`(\w+Test\.\w+)`/g),
    ([, test]) => test,
  );
  for (const test of named) {
    if (!existing.has(test)) problems.push(`${name}: no such test: ${test}`);
  }
  return named.length;
}

console.log(`CHANGELOG.md: ${checkChangelog('CHANGELOG.md')} tests`);
for (const name of DOCUMENTS) console.log(`${name}: ${check(name)} rows`);
for (const problem of problems) console.error(problem);
console.log(`${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
