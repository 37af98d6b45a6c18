// Searches every state of the concurrency models in test/models/ with spin.
// It also shows that each model can fail: the search must find the error in each broken variant.
// A model's first comment names its broken variants: `NAME breaks it`. A model without any fails.
// It prints a table, and fails if a result is wrong, or if there is no model.
//   node scripts/models.mjs [folder]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';

const MODELS = process.argv[2] ?? join(import.meta.dirname, '..', 'test', 'models');
const MOST_STEPS = '1000000';

/** @typedef {{ model: string, variant: string, states: number, depth: number, errors: number, ok: boolean }} Result */

/** @returns {Result} */
function search(file, variant) {
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-model-'));
  const execute = (program, args) => execFileSync(program, args, { cwd: folder, encoding: 'utf8' });
  try {
    const define = variant === '' ? [] : [`-D${variant}`];
    execute('spin', [...define, '-a', join(MODELS, file)]);
    // The search of a broken variant ends early, so optimizing would take longer than it saves.
    const level = variant === '' ? '-O2' : '-O0';
    execute('gcc', [level, '-w', '-DSAFETY', '-DCOLLAPSE', '-o', 'pan', 'pan.c']);
    const output = execute('./pan', [`-m${MOST_STEPS}`]);
    const number = (pattern) => Number(pattern.exec(output)?.[1] ?? NaN);
    const errors = number(/errors: (\d+)/);
    const isWhole = !output.includes('max search depth too small');
    return {
      model: file,
      variant,
      states: number(/(\d+) states, stored/),
      depth: number(/depth reached (\d+)/),
      errors,
      ok: isWhole && (variant === '' ? errors === 0 : errors > 0),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function variantsOf(file) {
  const [comment] = readFileSync(join(MODELS, file), 'utf8').split('*/');
  return [...comment.matchAll(/\b([A-Z][A-Z_]+) breaks it/g)].map(([, name]) => name);
}

/** @returns {Result[]} */
function searchAll(file) {
  const variants = variantsOf(file);
  if (variants.length > 0) return ['', ...variants].map((each) => search(file, each));
  return [{ model: file, variant: 'nothing', states: 0, depth: 0, errors: 0, ok: false }];
}

const files = readdirSync(MODELS).filter((name) => name.endsWith('.pml'));
const results = files.flatMap(searchAll);
const table = new Table({ head: ['model', 'broken by', 'states', 'depth', 'errors', ''] });
for (const { model, variant, states, depth, errors, ok } of results) {
  table.push([model, variant, states, depth, errors, ok ? 'as expected' : 'WRONG']);
}
console.log(table.toString());
if (results.length === 0) console.log(`There is no model in ${MODELS}.`);
const wrong = results.length === 0 ? 1 : results.filter(({ ok }) => !ok).length;
console.log(`${results.filter(({ ok }) => ok).length} passed, ${wrong} failed, 0 skipped`);
process.exitCode = wrong === 0 ? 0 : 1;
