import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const KEXT = join(ROOT, 'kext');

/** The macros of the driver that have a value, by their names. Headers are read after sources. */
function readConstants(): ReadonlyMap<string, string> {
  const files = readdirSync(KEXT).filter((name) => /\.[ch]$/.test(name));
  const text = files.map((name) => readFileSync(join(KEXT, name), 'utf8')).join('\n');
  const defines = text.matchAll(/^#define[ \t]+([A-Z]\w*)[ \t]+([^\n/]+)/gm);
  return new Map(Array.from(defines, ([, name, value]) => [name!, value!.trim()]));
}

const constants = readConstants();

/** The value of a constant expression of numbers, macros, `*`, `<<`, `>>`, `+` and `-`. */
function evaluate(expression: string): number {
  const numbers = expression
    .replaceAll(/\b(\d+)(?:u|ULL)\b/g, '$1')
    .replaceAll(/\b[A-Z]\w*\b/g, (name) => String(evaluate(constants.get(name) ?? 'unknown')));
  if (!/^[\d\s()*<>+-]+$/.test(numbers)) throw new Error(`Cannot evaluate ${expression}`);
  return Number(runInNewContext(numbers));
}

/** The rows `| number | what | constant |` of the page. */
function readRows(): readonly (readonly [constant: string, number: number])[] {
  const page = readFileSync(join(ROOT, 'docs/limits.md'), 'utf8');
  const rows = page.matchAll(/^\| ([\d,]+) +\| .* \| `(\w+)` +\|$/gm);
  return Array.from(rows, ([, number, name]) => [name!, Number(number!.replaceAll(',', ''))]);
}

describe('the page of limits', () => {
  it.each(readRows())('has the value of %s', (name, number) => {
    expect(constants.has(name)).toBe(true);
    expect(evaluate(name)).toBe(number);
  });

  it.each(
    [...constants.keys()].filter((name) =>
      /^(?:OPTIONS|FRAGMENT)_(?:DEFAULT_)?(?:MOST|MAX)_/.test(name),
    ),
  )('names %s', (name) => {
    expect(readRows().map(([constant]) => constant)).toContain(name);
  });
});
