// Runs clang-tidy over the driver's sources, with the checks of .clang-tidy. Each file counts as one check.
//   node scripts/tidy.mjs [file]…
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import pLimit from 'p-limit';
import { run } from './testing/run.mjs';
import { provideTools } from './testing/tools.mjs';

const FLAGS = ['-std=c17', '-fshort-wchar', '-DNDIS_SUPPORT_NDIS630=1', '-DNDIS630=1'];
const FOLDERS = ['sim/include', 'kext/wdk', 'kext'];

async function passes(file) {
  const { ok, output } = await run('clang-tidy-19', [
    '--quiet',
    file,
    '--',
    ...FLAGS,
    ...FOLDERS.map((folder) => `-I${folder}`),
  ]);
  if (!ok) console.log(output);
  return ok;
}

if (provideTools(['clang-tidy-19']).size > 0) process.exit(1);
const named = process.argv.slice(2);
const files = named.length > 0 ? named : readdirSync('kext').filter((name) => name.endsWith('.c'));
const limit = pLimit(availableParallelism());
const results = await limit.map(files, (file) => passes(named.length > 0 ? file : `kext/${file}`));
const failed = results.filter((ok) => !ok).length;
console.log(`${results.length - failed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed > 0 ? 1 : 0;
