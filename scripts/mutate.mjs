// Measures the tests: changes the driver or the library in one small place at a time, and runs the tests of it.
//   npm run mutate -- --sample 200 --of kext
//   node scripts/mutate.mjs --print FILE
//
// A mutation that no test notices survives, and is printed. What does not compile is replaced by another mutation, and
// so is what compiles to the same code. The seed decides the choice. The mutated files are in a temporary folder.
// scripts/mutation/equivalent.json lists the survivors that behave as the original does, with the reason for each.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { identityOf, lineNumber, shuffled, sourceOf } from './mutation/mutation.mjs';

const EQUIVALENT = join(import.meta.dirname, 'mutation', 'equivalent.json');

const options = new Command('mutate')
  .description('change the sources in one place at a time, and print what no test notices')
  .option('--sample <n>', 'how many mutations of each', positive, 100)
  .option('--seed <n>', 'which ones', positive, 1)
  .addOption(new Option('--of <part>', 'the driver or the library').choices(['kext', 'lib']))
  .option('--files <text>', 'only files whose path has this text', '')
  .option('--print <file>', 'only print the mutations of a C or TypeScript file')
  .option('--jobs <n>', 'how many at once', positive, availableParallelism())
  .parse()
  .opts();

function positive(text) {
  const number = Number(text);
  if (!(Number.isInteger(number) && number > 0))
    throw new InvalidArgumentError('Give a whole number above 0.');
  return number;
}

const textOf = ({ file, within, from, to }) => JSON.stringify([file, within, from, to]);

const equivalents = new Set(
  JSON.parse(readFileSync(EQUIVALENT, 'utf8')).map(({ why, ...identity }) => {
    if (!why) throw new Error(`${EQUIVALENT}: no reason for ${textOf(identity)}`);
    return textOf(identity);
  }),
);

const counts = { killed: 0, survived: 0, 'not compiled': 0, 'no change': 0, equivalent: 0 };

function print(source, mutation, remark = '') {
  const { file, within, from, to } = identityOf(source, mutation);
  const place = `${file}:${lineNumber(source, mutation)} ${within}`;
  console.log(`${place}: ${mutation.kind}${remark}\n- ${from}\n+ ${to}\n`);
}

function reportSurvivor(mutation) {
  const source = sourceOf(mutation.file);
  const isEquivalent = equivalents.has(textOf(identityOf(source, mutation)));
  if (isEquivalent) counts.equivalent++;
  print(source, mutation, isEquivalent ? ', shown to be equivalent' : '');
}

/** Tries mutations out until the sample is complete. A lane is a place for one mutation at a time. */
async function runTarget(target, folder) {
  await target.prepare(folder, options.jobs);
  const wanted = target.mutations().filter(({ file }) => file.includes(options.files));
  const left = shuffled(wanted, options.seed);
  console.log(
    `${target.name}: ${Math.min(options.sample, left.length)} of ${left.length} mutations`,
  );
  let open = options.sample;
  const work = async (number) => {
    const lane = target.openLane(join(folder, `${target.name}-${number}`));
    while (open > 0 && left.length > 0) {
      open--;
      const mutation = left.pop();
      const result = await target.tryOut(mutation, lane);
      counts[result]++;
      if (result === 'survived') reportSurvivor(mutation);
      if (result === 'not compiled' || result === 'no change') open++;
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, (_, number) => work(number)));
}

function printCounts() {
  const { killed, survived, equivalent } = counts;
  console.log(`${counts['no change']} had the code of the original or of another mutation`);
  console.log(`${equivalent} of the survivors are shown to be equivalent`);
  console.log(`${killed} killed, ${survived} survived, ${counts['not compiled']} not compiled`);
}

async function tryOut() {
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-mutate-'));
  // Ctrl-C prints what is known so far.
  process.on('exit', () => {
    rmSync(folder, { recursive: true, force: true });
    printCounts();
  });
  if (options.of !== 'lib') {
    const { KextTarget } = await import('./mutation/kext_target.mjs');
    await runTarget(new KextTarget(), folder);
  }
  if (options.of !== 'kext') {
    const { LibTarget } = await import('./mutation/lib_target.mjs');
    await runTarget(new LibTarget(), folder);
  }
  process.exitCode = counts.survived > counts.equivalent ? 1 : 0;
}

async function mutationsOf(file, source) {
  if (/\.[ch]$/.test(file)) {
    const { mutationsOfC } = await import('./mutation/c_mutations.mjs');
    return mutationsOfC(file, source);
  }
  const { mutationsOfTypeScript } = await import('./mutation/ts_mutations.mjs');
  return mutationsOfTypeScript(file, source);
}

if (options.print === undefined) {
  await tryOut();
} else {
  const source = readFileSync(options.print, 'utf8');
  for (const mutation of await mutationsOf(options.print, source)) print(source, mutation);
}
