// Checks the documents: each behaviour has a test, each named test exists, and no line is wider than 120 columns.
//
// A behaviour is a list item that begins with a key, or a cell of a table of verdicts, whose key is `row, column`.
// `<document>.tests.json` beside a document maps each key to its tests: `Suite.Test`, or `file › title` for vitest.
// The changelog names tests as `SuiteTest.Test`.
// `test/wine/not_under_wine.ts` names tests too, and docs/status.md says how many of them are scenarios.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import ts from 'typescript';
import { root } from './testing/run.mjs';

const DOCUMENTS = ['docs/behaviour', 'docs/fidelity', 'docs/reliability', 'docs/threat-model'];
const NOT_UNDER_WINE = 'test/wine/not_under_wine.ts';
const STATUS = 'docs/status.md';
const MOST_COLUMNS = 120;
const problems = [];

const read = (path) => readFileSync(join(root, path), 'utf8');

/** The files of a folder whose names end so, by their paths from the root. */
const filesOf = (folder, ending, recursive = false) =>
  readdirSync(join(root, folder), { recursive, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));

/** A document's lines with their numbers, without fenced code. */
function linesOf(name) {
  let isCode = false;
  return read(name)
    .split('\n')
    .map((text, index) => ({ text, where: `${name}:${index + 1}` }))
    .filter(({ text }) => {
      const isFence = /^\s*```/.test(text);
      if (isFence) isCode = !isCode;
      return !isCode && !isFence;
    });
}

function checkWidths(name) {
  for (const { text, where } of linesOf(name)) {
    const columns = [...text].length;
    if (columns > MOST_COLUMNS) problems.push(`${where}: ${columns} columns, over ${MOST_COLUMNS}`);
  }
}

const cellsOf = (line) =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());

/** The keys of a document's behaviours, with their places. */
function* behavioursOf(name) {
  let columns;
  let hasKeys = false;
  let keyless = [];
  for (const { text, where } of [...linesOf(name), { text: '## ' }]) {
    const cells = cellsOf(text);
    if (cells.length === 0) columns = undefined;
    else if (cells[0] === 'verdict') columns = cells;
    else if (columns !== undefined && !/^-+$/.test(cells[0])) {
      for (const [index, cell] of cells.entries()) {
        if (index > 0 && cell !== '-') yield { key: `${cells[0]}, ${columns[index]}`, where };
      }
    }
    const key = /^- `([a-z0-9-]+)` \S/.exec(text)?.[1];
    if (key !== undefined) {
      hasKeys = true;
      yield { key, where };
    } else if (text.startsWith('- ')) {
      keyless.push(where);
    } else if (text.startsWith('#')) {
      if (hasKeys) problems.push(...keyless.map((place) => `${place}: a behaviour without a key`));
      hasKeys = false;
      keyless = [];
    }
  }
}

function googleTests() {
  const pattern = /^TEST(?:_F|_P)?\((\w+),\s+(\w+)\)/gm;
  return new Set(
    filesOf('test', '.cc', true).flatMap((path) =>
      Array.from(read(path).matchAll(pattern), ([, suite, name]) => `${suite}.${name}`),
    ),
  );
}

/** The full names of vitest's tests by file, for files with one of these labels. */
function vitestTests(labels) {
  const labelOf = (path) => basename(path, '.test.ts');
  const files = filesOf('test', '.test.ts', true).filter((path) => labels.has(labelOf(path)));
  const tests = new Map(files.map((path) => [labelOf(path), []]));
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const result = spawnSync(
    process.execPath,
    // --json comes last: vitest takes a name behind it for the output file.
    [vitest, 'list', '--project=netverdict', ...files, '--json'],
    { cwd: root, encoding: 'utf8' },
  );
  if (result.status !== 0) throw new Error(`vitest list: ${result.stdout}${result.stderr}`);
  for (const { file, name } of JSON.parse(result.stdout)) tests.get(labelOf(file)).push(name);
  return tests;
}

/** A cited title is the end of a test's name, from some group on. */
const isCited = (name, cited) => ` > ${name}`.endsWith(` > ${cited}`);

function checkKeys(document, behaviours, tests) {
  const seen = new Set();
  for (const { key, where } of behaviours) {
    if (seen.has(key)) problems.push(`${where}: the key stands twice: ${key}`);
    else if (!(tests[key]?.length > 0))
      problems.push(`${where}: ${document}.tests.json has no test of ${key}`);
    seen.add(key);
  }
  for (const key of Object.keys(tests)) {
    if (!seen.has(key)) problems.push(`${document}.tests.json: no such behaviour: ${key}`);
  }
  if (seen.size === 0) problems.push(`${document}.md: no behaviours`);
  console.log(`${document}.md: ${seen.size} behaviours`);
}

/** The tests that are left out under Wine. The file is plain TypeScript, which not every Node.js can import. */
async function notUnderWine() {
  const { outputText } = ts.transpileModule(read(NOT_UNDER_WINE), {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  });
  return (await import(`data:text/javascript,${encodeURIComponent(outputText)}`)).notUnderWine;
}

function checkScenariosNotUnderWine(exceptions) {
  const scenarios = new Set(readdirSync(join(root, 'test/scenarios')));
  const { length } = exceptions.filter(({ file }) => scenarios.has(file));
  const said = /except for the (\d+) that\s+\[not_under_wine\.ts\]/.exec(read(STATUS))?.[1];
  if (Number(said) !== length) {
    problems.push(`${STATUS}: ${said} scenarios are not run under Wine, but ${length} are listed`);
  }
}

const documents = DOCUMENTS.map((document) => ({
  document,
  behaviours: [...behavioursOf(`${document}.md`)],
  tests: JSON.parse(read(`${document}.tests.json`)),
}));
const named = documents.flatMap(({ document, tests }) =>
  Object.entries(tests).flatMap(([key, names]) =>
    names.map((name) => ({ name, where: `${document}.tests.json: ${key}` })),
  ),
);
const inChangelog = Array.from(read('CHANGELOG.md').matchAll(/`(\w+Test\.\w+)`/g), ([, name]) => ({
  name,
  where: 'CHANGELOG.md',
}));

const exceptions = await notUnderWine();
const leftOut = exceptions.map(({ file, test }) => ({
  name: `${basename(file, '.test.ts')} › ${test}`,
  where: NOT_UNDER_WINE,
}));

const native = googleTests();
const titled = (name) => /^(\w+) › (.+)$/.exec(name)?.slice(1);
const scripted = vitestTests(new Set([...named, ...leftOut].map(({ name }) => titled(name)?.[0])));
for (const { name, where } of [...named, ...inChangelog, ...leftOut]) {
  const [label, title] = titled(name) ?? [];
  const exists = title
    ? scripted.get(label)?.some((existing) => isCited(existing, title))
    : native.has(name);
  if (!exists) problems.push(`${where}: no such test: ${name}`);
}
for (const { document, behaviours, tests } of documents) checkKeys(document, behaviours, tests);
checkScenariosNotUnderWine(exceptions);
for (const folder of ['.', 'docs', 'captures', 'examples']) {
  for (const name of filesOf(folder, '.md')) checkWidths(name);
}

console.log(`CHANGELOG.md: ${inChangelog.length} tests`);
for (const problem of problems) console.error(problem);
console.log(`${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
