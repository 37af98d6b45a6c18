import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

const SCRIPT = join(import.meta.dirname, '..', '..', 'scripts', 'models.mjs');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'netverdict-models-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function search(): { code: number | null; lastLine: string | undefined } {
  const { status, stdout } = spawnSync(process.execPath, [SCRIPT, folder], { encoding: 'utf8' });
  return { code: status, lastLine: stdout.trim().split('\n').at(-1) };
}

it('a folder without models fails', () => {
  expect(search()).toEqual({ code: 1, lastLine: '0 passed, 1 failed, 0 skipped' });
});

it('a model that nothing breaks fails', () => {
  writeFileSync(join(folder, 'empty.pml'), '/* It cannot fail. */\ninit { skip }\n');
  expect(search()).toEqual({ code: 1, lastLine: '0 passed, 1 failed, 0 skipped' });
});
