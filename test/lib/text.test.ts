import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../lib/base/errors.js';
import { cut, printable, printableJson, quoted } from '../../lib/base/text.js';
import { parseInfo } from '../../lib/codec/decoder.js';
import { log } from './support/records.js';

const FOREIGN: [string, string][] = [
  ['an escape sequence', '\x1b[2J'],
  ['a C1 control sequence', '\u009b2J'],
  ['a delete', '\x7f'],
  ['a line feed', '\n'],
  ['a line separator', '\u2028'],
  ['a bidi override', '\u202e'],
  ['a bidi isolate', '\u2067'],
  ['an Arabic letter mark', '\u061c'],
  ['a zero width space', '\u200b'],
  ['a tag', '\u{e0041}'],
  ['half a character', '\ud800'],
];

describe('text of others', () => {
  it.each(FOREIGN)('%s is not printed', (_, text) => {
    const shown = printable(`a${text}b`);
    expect(shown).toMatch(/^a[ \ufffd][^]*b$/u);
    expect(shown).not.toContain(text);
  });

  it.each(FOREIGN)('%s is escaped in JSON, whose value stays', (_, text) => {
    const json = printableJson({ name: text });
    expect(json).toMatch(/^[\x20-\x7e]+$/);
    expect(JSON.parse(json)).toEqual({ name: text });
  });

  it('keeps letters of every script, and spaces', () => {
    const text = 'Größe – 日本語 عربي 😀';
    expect(printable(text)).toBe(text);
    expect(printableJson(text)).toBe(`"${text}"`);
  });

  it.each(FOREIGN)('%s is not in the message of an error', (_, text) => {
    expect(new InvalidArgumentError(`${text}: no such file`).message).not.toContain(text);
  });

  it('has no control characters and bidi overrides in an inspected event', () => {
    const [event] = parseInfo(log(3, 'a\x1b\u202eb'));
    expect(inspect(event)).toContain('a\ufffd\ufffdb');
  });

  it('is shortened in messages', () => {
    expect(cut('x'.repeat(200))).toHaveLength(200);
    expect(cut('x'.repeat(201))).toHaveLength(201);
    expect(cut('x'.repeat(1_000_000))).toBe(`${'x'.repeat(200)}…`);
    expect(quoted('x'.repeat(1_000_000)).length).toBeLessThan(210);
    expect(quoted({ a: ['x'.repeat(1_000_000), 1n] }).length).toBeLessThan(210);
    expect(quoted(undefined)).toBe('undefined');
    expect(quoted([1, 2, 3, 4, 5])).toBe('[ 1, 2, 3, 4, 5 ]');
    expect(quoted([1, 2, 3, 4, 5, 6])).toBe('[ 1, 2, 3, 4, 5, ... 1 more item ]');
  });
});
