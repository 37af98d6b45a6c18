// A mutation: one small change of one file, as a mistake would make it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../testing/run.mjs';

/**
 * @typedef {object} Mutation
 * @property {string} file from the root
 * @property {string} within the name of the function
 * @property {string} kind
 * @property {number} start of the text that is replaced
 * @property {number} end
 * @property {string} replacement
 */

export const sourceOf = (file) => readFileSync(join(root, file), 'utf8');

export const mutated = (source, { start, end, replacement }) =>
  source.slice(0, start) + replacement + source.slice(end);

export const lineNumber = (source, { start }) => source.slice(0, start).split('\n').length;

const oneLine = (text) => text.replace(/\s+/g, ' ').trim();

/** The lines around the change, before it and after it. */
function change(source, { start, end, replacement }) {
  const first = source.lastIndexOf('\n', start - 1) + 1;
  const next = source.indexOf('\n', end);
  const last = next < 0 ? source.length : next;
  return {
    from: oneLine(source.slice(first, last)),
    to: oneLine(source.slice(first, start) + replacement + source.slice(end, last)),
  };
}

/** What names the mutation while lines move: its file, its function, and the line before and after it. */
export function identityOf(source, mutation) {
  const { file, within } = mutation;
  return { file, within, ...change(source, mutation) };
}

/** Pseudorandom numbers in [0, 1), the same for the same seed (the mulberry32 generator). */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The items in an order that the seed decides. */
export function shuffled(items, seed) {
  const random = randomNumbers(seed);
  const result = [...items];
  for (let left = result.length; left > 1; left--) {
    const chosen = Math.floor(random() * left);
    [result[left - 1], result[chosen]] = [result[chosen], result[left - 1]];
  }
  return result;
}
