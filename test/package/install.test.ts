/** The package's install step, in a folder laid out as an installed package or as a checkout. */

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const target = `${process.platform}-${process.arch}`;

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'netverdict-install-'));
  mkdirSync(join(folder, 'scripts'));
  copyFileSync(join(root, 'scripts', 'install.mjs'), join(folder, 'scripts', 'install.mjs'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{"name":"netverdict"}');
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function addPrebuild(): void {
  mkdirSync(join(folder, 'prebuilds', target), { recursive: true });
  copyFileSync(
    join(root, 'build', 'Release', 'netverdict.node'),
    join(folder, 'prebuilds', target, 'netverdict.node'),
  );
}

/** Runs the step; the stand-in for the compiler exits with `compilerStatus`, and no program is on the PATH. */
function install(
  compilerStatus?: number,
  variables: Record<string, string> = {},
): { status: number | null; stdout: string; stderr: string } {
  const compiler = join(folder, 'compiler.cjs');
  if (compilerStatus !== undefined) {
    writeFileSync(compiler, `console.log('compiler runs'); process.exit(${compilerStatus});`);
  }
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(folder, 'scripts', 'install.mjs')],
    {
      encoding: 'utf8',
      env: {
        PATH: '',
        ...(compilerStatus === undefined ? {} : { npm_config_node_gyp: compiler }),
        ...variables,
      },
    },
  );
  return { status, stdout, stderr };
}

describe('the install step', () => {
  it('starts no program and prints nothing if a prebuilt addon fits', () => {
    addPrebuild();
    expect(install(1)).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  it('names the platform without a prebuilt addon, and compiles', () => {
    expect(install(0)).toEqual({
      status: 0,
      stdout: `netverdict: no prebuilt addon for ${target}: compiling\ncompiler runs\n`,
      stderr: '',
    });
  });

  it('compiles on request although there is a prebuilt addon', () => {
    addPrebuild();
    expect(install(0, { npm_config_build_from_source: 'true' })).toEqual({
      status: 0,
      stdout: 'netverdict: built from source, as asked: compiling\ncompiler runs\n',
      stderr: '',
    });
  });

  it.each([
    ['without a compiler', undefined],
    ['where the compiler fails', 1],
  ])('fails in an installed package %s, and says what to install', (_, compilerStatus) => {
    const { status, stderr } = install(compilerStatus);
    expect(status).toBe(1);
    expect(stderr).toContain('apt-get install python3 make g++');
    expect(stderr).toContain('run npm install again');
  });

  it('only warns in a checkout, because its tests install the compiler', () => {
    writeFileSync(join(folder, 'scripts', 'test.mjs'), '');
    const { status, stderr } = install();
    expect(status).toBe(0);
    expect(stderr).toContain('apt-get install python3 make g++');
    expect(stderr).toContain('npm test installs the missing programs');
  });
});
