// The seeds of the library's fuzzers: the files of the corpus, unchanged and with changes.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';

const ROOT = join(import.meta.dirname, '..', '..', '..');

function filesOf(folder, isWanted = () => true) {
  const names = readdirSync(folder).filter(isWanted).sort();
  if (names.length === 0) throw new Error(`There is nothing to start from in ${folder}.`);
  return names.map((name) => readFileSync(join(folder, name)));
}

export const corpusOf = (fuzzer) => filesOf(join(ROOT, 'test', 'fuzz', 'corpus', fuzzer));

export const examplePolicies = () =>
  filesOf(join(ROOT, 'examples'), (name) => name.endsWith('.json'));

/** The seed with up to three ranges replaced by other bytes, or by none. */
export const changed = (seed) =>
  fc
    .tuple(
      seed,
      fc.array(fc.tuple(fc.nat(), fc.nat(8), fc.uint8Array({ maxLength: 8 })), { maxLength: 3 }),
    )
    .map(([bytes, changes]) =>
      changes.reduce((result, [place, length, replacement]) => {
        const start = place % (result.length + 1);
        return Buffer.concat([
          result.subarray(0, start),
          replacement,
          result.subarray(start + length),
        ]);
      }, bytes),
    );
