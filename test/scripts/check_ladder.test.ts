import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const SCRIPT = join(import.meta.dirname, '..', '..', 'scripts', 'check_ladder.mjs');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'netverdict-ladder-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** What the script says of a folder with these files, and its exit code. */
function check(
  language: 'c' | 'typescript',
  files: Readonly<Record<string, string>>,
  ...flags: string[]
): { output: string; code: number | null } {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const result = spawnSync(process.execPath, [SCRIPT, `--${language}`, '.', ...flags], {
    cwd: folder,
    encoding: 'utf8',
  });
  return { output: result.stdout + result.stderr, code: result.status };
}

const TABLE_H = `#pragma once
typedef struct _TABLE
{
    int Count;
} TABLE;
int TableCount(const TABLE *table);
`;
const TABLE_C = `#include "table.h"

int TableCount(const TABLE *table)
{
    return table->Count;
}
`;
test.each(['c', 'typescript'] as const)('a folder without files of %s fails', (language) => {
  expect(check(language, {}).code).toBe(1);
});

const HOLD_C = `#include "hold.h"

_Use_decl_annotations_
int HoldCount(const TABLE *table)
{
    return TableCount(table);
}
`;
const HOLD_H = `#pragma once
#include "table.h"
int HoldCount(const TABLE *table);
`;
const LADDER = { 'table.h': TABLE_H, 'table.c': TABLE_C, 'hold.h': HOLD_H, 'hold.c': HOLD_C };

describe('of C', () => {
  test('a ladder passes', () => {
    expect(check('c', LADDER)).toEqual({ output: '0 circles\n', code: 0 });
  });

  test('the ladder is printed from the bottom up', () => {
    expect(check('c', LADDER, '--print').output).toContain('  0  table\n  1  hold\n');
  });

  test('a circle of includes fails, with files and lines', () => {
    const { output, code } = check('c', { ...LADDER, 'table.h': `#include "hold.h"\n${TABLE_H}` });
    expect(code).toBe(1);
    expect(output).toContain('hold → table → hold');
    expect(output).toContain('hold.h:2: #include "table.h"');
    expect(output).toContain('table.h:1: #include "hold.h"');
    expect(output).toContain('1 circles');
  });

  test('a call through a forward declaration makes a circle', () => {
    const { output, code } = check('c', {
      ...LADDER,
      'table.c': `${TABLE_C}\nint HoldCount(const TABLE *);\nint TableAll(TABLE *t)\n{\n    return HoldCount(t);\n}\n`,
    });
    expect(code).toBe(1);
    expect(output).toContain('table.c:8: HoldCount');
  });

  test('the use of a structure that is only named makes a circle', () => {
    const { output, code } = check('c', {
      ...LADDER,
      'table.h': `typedef struct _HELD HELD;\n${TABLE_H}`,
      'hold.h': `${HOLD_H}struct _HELD\n{\n    int Id;\n};\n`,
    });
    expect(code).toBe(1);
    expect(output).toContain('table.h:1: _HELD');
  });

  test('data that another file defines is needed', () => {
    const { output, code } = check('c', {
      ...LADDER,
      'hold.c': `${HOLD_C}\nconst int HoldLimits[2] = {1, 2};\n`,
      'table.c': `extern const int HoldLimits[2];\n${TABLE_C.replace('Count;', 'Count + HoldLimits[0];')}`,
    });
    expect(code).toBe(1);
    expect(output).toContain('table.c:6: HoldLimits');
  });

  test('names in comments and texts, of members and of static functions are no use', () => {
    const own = `
// HoldCount
static const char *Name = "HoldCount"; /* HoldCount */
static int Step(int HoldLimits)
{
    return HoldLimits;
}
int TableStep(struct _TABLE *t)
{
    return t->Count + Step(t->Count);
}
`;
    const files = {
      ...LADDER,
      'hold.c': `${HOLD_C}\nstatic int Step(void)\n{\n    return 1;\n}\nint Count;\n`,
      'table.c': TABLE_C + own,
    };
    expect(check('c', files)).toEqual({ output: '0 circles\n', code: 0 });
  });
});

describe('of TypeScript', () => {
  const ladder = {
    'index.ts': `export { Device } from './device/device.js';\n`,
    'device/device.ts': `import type { Wire } from '../codec/wire.js';\nexport class Device {\n  wire?: Wire;\n}\n`,
    'codec/wire.ts': `export interface Wire {\n  bytes: Uint8Array;\n}\n`,
  };

  test('a ladder passes', () => {
    expect(check('typescript', ladder)).toEqual({ output: '0 circles\n', code: 0 });
  });

  test('the ladders of files and of rooms are printed', () => {
    const { output } = check('typescript', ladder, '--print');
    expect(output).toContain('  0  codec/wire.ts\n  1  device/device.ts\n  2  index.ts\n');
    expect(output).toContain('  0  codec\n  1  device\n  2  index.ts\n');
  });

  test.each([
    ['an import of a type', `import type { Device } from '../device/device.js';`],
    ['a type that is imported in place', `export type It = import('../device/device.js').Device;`],
    ['a re-export', `export type { Device } from '../device/device.js';`],
    ['an import at run time', `export const it = import('../device/device.js');`],
  ])('%s makes a circle', (_what, line) => {
    const { output, code } = check('typescript', {
      ...ladder,
      'codec/wire.ts': `${line}\n${ladder['codec/wire.ts']}`,
    });
    expect(code).toBe(1);
    expect(output).toContain('codec/wire.ts → device/device.ts → codec/wire.ts');
    expect(output).toContain(`codec/wire.ts:1: `);
    expect(output).toContain(`device/device.ts:1: import type { Wire } from '../codec/wire.js';`);
  });

  test('rooms that need each other fail though their files do not', () => {
    const { output, code } = check('typescript', {
      ...ladder,
      'codec/names.ts': `import '../device/device.js';\n`,
    });
    expect(code).toBe(1);
    expect(output).toContain('rooms: a circle of 2: codec, device');
    expect(output).toContain('1 circles');
  });
});
