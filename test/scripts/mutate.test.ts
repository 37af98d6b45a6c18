import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const SCRIPT = join(import.meta.dirname, '..', '..', 'scripts', 'mutate.mjs');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'netverdict-mutate-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** The changed lines that the script prints for a file with this text. */
function changedLines(name: string, text: string): string[] {
  writeFileSync(join(folder, name), text);
  const { stdout, status } = spawnSync(process.execPath, [SCRIPT, '--print', name], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(status).toBe(0);
  return Array.from(stdout.matchAll(/^\+ (.*)$/gm), ([, line]) => line!);
}

const inC = (body: string, type = 'VOID'): string[] =>
  changedLines('file.c', `_Use_decl_annotations_\n${type} Do(UINT32 a, UINT8 *b)\n{\n${body}\n}\n`);

const inTypeScript = (text: string): string[] => changedLines('file.ts', text);

/** Each line, with what is expected in its place: one program for all of them is fast. */
type Cases = readonly (readonly [line: string, expected: readonly string[]])[];

const expectedOf = (cases: Cases): string[] => cases.flatMap(([, expected]) => expected).sort();
const linesOf = (cases: Cases): string => cases.map(([line]) => `    ${line}\n`).join('');

describe('the mutations of C', () => {
  test('change operators, conditions, constants and arguments, and leave statements out', () => {
    const cases: Cases = [
      ['BOOLEAN x1 = a < b;', ['BOOLEAN x1 = a <= b;', 'BOOLEAN x1 = a >= b;']],
      ['BOOLEAN x2 = a == b;', ['BOOLEAN x2 = a != b;']],
      ['BOOLEAN x3 = a && b;', ['BOOLEAN x3 = a || b;']],
      ['UINT32 x4 = a + b;', ['UINT32 x4 = a - b;']],
      ['UINT32 x5 = a << b;', ['UINT32 x5 = a >> b;']],
      ['UINT32 x6 = a & b;', ['UINT32 x6 = a | b;']],
      ['UINT32 x7 = 4u;', ['UINT32 x7 = (4u + 1);', 'UINT32 x7 = (4u - 1);']],
      ['BOOLEAN x8 = TRUE;', ['BOOLEAN x8 = FALSE;']],
      ['if (!a1) {}', ['if ((!(!a1))) {}', 'if (a1) {}']],
      ['UINT8 x9 = Of(a, Of(b, c));', ['UINT8 x9 = Of(Of(b, c), a);', 'UINT8 x9 = Of(a, Of(c, b));']],
      ['Do(a);', [';']],
      ['b->Field = a;', [';']],
      ['*b = a;', [';']],
      ['b->Count++;', [';', 'b->Count--;']],
      ['b[a] |= a;', [';', 'b[a] &= a;']],
      ['goto end;', [';']],
    ];
    expect(inC(linesOf(cases)).sort()).toEqual(expectedOf(cases));
  });

  test('return something else', () => {
    expect(inC('    return a;', 'UINT32')).toEqual(['return 0;']);
    expect(inC('    return Is(a);', 'BOOLEAN')).toEqual(['return (BOOLEAN) !(Is(a));']);
    expect(inC('    return STATUS_SUCCESS;', 'NTSTATUS')).toEqual(['return STATUS_UNSUCCESSFUL;']);
  });

  test('leave out what has no effect: declarations, casts, comments, texts, log lines', () => {
    const lines = [
      'UINT8 *x = (UINT8 *)&y;',
      '// a < b',
      'static_assert(a < 4, "a");',
      'LogWarning(&log, "%u", a + 1);',
      'UNREFERENCED_PARAMETER(a);',
      'const CHAR *z = "a < b";',
    ];
    expect(inC(lines.map((line) => `    ${line}\n`).join(''))).toEqual([]);
  });

  test('change bodies of functions alone', () => {
    expect(changedLines('file.c', 'static const UINT8 Limit = 4 + 1;\n')).toEqual([]);
  });
});

describe('the mutations of TypeScript', () => {
  test('change operators, conditions, constants and arguments, and leave statements out', () => {
    const cases: Cases = [
      ['const x1 = a < b;', ['const x1 = a <= b;', 'const x1 = a >= b;']],
      ['const x2 = a === b;', ['const x2 = a !== b;']],
      ['const x3 = a || b;', ['const x3 = a && b;']],
      ['const x4 = a >>> b;', ['const x4 = a << b;', 'const x4 = a >> b;']],
      ['const x5 = !a;', ['const x5 = a;']],
      ['const x6 = a ? b : c;', ['const x6 = !(a) ? b : c;']],
      ['const x7 = 7;', ['const x7 = (7 + 1);', 'const x7 = (7 - 1);']],
      ['const x8 = 0n;', ['const x8 = (0n + 1n);']],
      ['const x9 = true;', ['const x9 = false;']],
      ['const y1 = f(a, b);', ['const y1 = f(b, a);']],
      ['const y2 = (a) => b;', ['const y2 = (a) => undefined as never;']],
      ['g();', [';']],
      ['if (!y) {}', ['if (y) {}']],
    ];
    expect(inTypeScript(linesOf(cases)).sort()).toEqual(expectedOf(cases));
  });

  test('return something else', () => {
    expect(inTypeScript('function f() {\n  return h;\n}\n')).toEqual([
      'return undefined as never;',
    ]);
  });

  test('leave types, texts and what has no order as they are', () => {
    const lines = ['type T = 1 | 2;', "const x: 1 = 'a' + b;", 'const y = Math.min(a, b);'];
    expect(inTypeScript(lines.join('\n'))).toEqual([]);
  });
});
