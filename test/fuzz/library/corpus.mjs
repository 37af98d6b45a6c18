// What the library's fuzzers start from: the files of the corpus, as they are and changed in places.
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

/** With up to three stretches replaced by other bytes, or by none. */
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
