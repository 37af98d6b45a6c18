/** What the smoke test for real Windows says of a driver that never ran. The package beside it is a fake. */

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

const SCRIPT = join(import.meta.dirname, '..', '..', '.github', 'windows_smoke_test.mjs');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'netverdict-smoke-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** The script's end, with a package whose service fails to start with an error of this class. */
function runWith(errorClass: string): { code: number | null; stdout: string } {
  const script = join(folder, '.github', 'windows_smoke_test.mjs');
  mkdirSync(join(folder, '.github'));
  copyFileSync(SCRIPT, script);
  writeFileSync(join(folder, 'package.json'), '{"main": "index.cjs"}');
  writeFileSync(
    join(folder, 'index.cjs'),
    `class DriverRefusedError extends Error {}
    module.exports = {
      DriverRefusedError,
      service: {
        status: async () => ({ state: 'not-installed' }),
        install: async () => undefined,
        start: async () => { throw new ${errorClass}('577'); },
        remove: async () => undefined,
      },
    };`,
  );
  const { status, stdout } = spawnSync(process.execPath, [script, 'x.sys'], { encoding: 'utf8' });
  return { code: status, stdout };
}

it('a driver that Windows refuses is not tested, and not ok', () => {
  const { code, stdout } = runWith('DriverRefusedError');
  expect(code).toBe(3);
  expect(stdout).toMatch(/^Not tested, .*577\n$/);
});

it('another failure to start is a failure', () => {
  expect(runWith('Error')).toEqual({ code: 1, stdout: '' });
});
