/** What is checked before a driver is published, and how Microsoft's tools are called. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'netverdict-driver-'));
const HEADER = 0x40;
const OPTIONAL = HEADER + 24;
const DIRECTORIES = OPTIONAL + 112;
const SECTION = DIRECTORIES + 16 * 8;
const DATA = 0x400; // in the file; in memory 0x1000
const LOAD_CONFIGURATION = 0x1000;
const DEBUG = 0x1200;

interface Parts {
  readonly loadConfiguration?: boolean;
  readonly cookie?: bigint;
  readonly guardFlags?: number;
  readonly debugType?: number;
}

/** Makes an image that has the parts of a driver by the WDK, but for the given ones. */
function image({
  loadConfiguration = true,
  cookie = 0x1_4000_3000n,
  guardFlags = 0x500,
  debugType = 2,
}: Parts): Buffer {
  const bytes = Buffer.alloc(0x1000);
  bytes.writeUInt32LE(HEADER, 0x3c);
  bytes.write('PE\0\0', HEADER, 'latin1');
  bytes.writeUInt16LE(1, HEADER + 6); // sections
  bytes.writeUInt16LE(SECTION - OPTIONAL, HEADER + 20);
  bytes.writeUInt16LE(0x20b, OPTIONAL);
  bytes.writeUInt32LE(16, OPTIONAL + 108);
  bytes.writeUInt32LE(DEBUG, DIRECTORIES + 8 * 6);
  bytes.writeUInt32LE(28, DIRECTORIES + 8 * 6 + 4);
  if (loadConfiguration) {
    bytes.writeUInt32LE(LOAD_CONFIGURATION, DIRECTORIES + 8 * 10);
    bytes.writeUInt32LE(0x140, DIRECTORIES + 8 * 10 + 4);
  }
  bytes.writeUInt32LE(0x1000, SECTION + 12);
  bytes.writeUInt32LE(0x800, SECTION + 16);
  bytes.writeUInt32LE(DATA, SECTION + 20);
  bytes.writeBigUInt64LE(cookie, DATA + 0x58);
  bytes.writeUInt32LE(guardFlags, DATA + 0x90);
  bytes.writeUInt32LE(debugType, DATA + (DEBUG - LOAD_CONFIGURATION) + 12);
  return bytes;
}

function check(file: string): { status: number | null; output: string } {
  const script = join(root, 'scripts', 'check_driver.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, file], {
    encoding: 'utf8',
  });
  return { status, output: `${stdout}${stderr}` };
}

function checkImage(bytes: Uint8Array): { status: number | null; output: string } {
  const file = join(folder, 'netverdict.sys');
  writeFileSync(file, bytes);
  return check(file);
}

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('the check before a publication', () => {
  it('accepts a driver with the parts that the WDK gives it', () => {
    expect(checkImage(image({}))).toEqual({ status: 0, output: '' });
  });

  it.each<[string, Parts]>([
    ['a load configuration', { loadConfiguration: false }],
    ['a security cookie (/GS)', { cookie: 0n }],
    ['control flow guard (/guard:cf)', { guardFlags: 0 }],
    ['the name of its symbols (PDB)', { debugType: 16 }],
  ])('refuses a driver without %s', (part, parts) => {
    const { status, output } = checkImage(image(parts));
    expect(status).toBe(1);
    expect(output).toContain(`lacks ${part}. `);
  });

  it('refuses the driver that mingw-w64 links', () => {
    const { status, output } = check(join(root, 'build', 'kext-mingw', 'kext', 'netverdict.sys'));
    expect(status).toBe(1);
    expect(output).toContain('lacks a load configuration, the name of its symbols (PDB). ');
  });

  it.each([
    ['empty', Buffer.alloc(0)],
    ['cut off', image({}).subarray(0, DIRECTORIES)],
  ])('refuses a file that is %s', (_, bytes) => {
    expect(checkImage(bytes).status).toBe(1);
  });

  it('stands before the publication in the release workflow', () => {
    const workflow = readFileSync(join(root, '.github', 'workflows', 'release.yml'), 'utf8');
    const command = 'node scripts/check_driver.mjs prebuilds/win32-x64/netverdict.sys';
    expect(workflow).toContain(command);
    expect(workflow.indexOf(command)).toBeLessThan(workflow.indexOf('npm publish'));
    expect(workflow.indexOf(command)).toBeGreaterThan(workflow.indexOf('gh release download'));
  });
});

describe('the build by the WDK', () => {
  it('uses the preprocessor for which the WDK’s headers are written', () => {
    const build = readFileSync(join(root, 'cmake', 'FindWDK.cmake'), 'utf8');
    expect(build).toMatch(/target_compile_options\([^)]*\/Zc:preprocessor-\s/);
  });

  it('checks the INF for Windows drivers and for the signature', () => {
    const workflow = readFileSync(join(root, '.github', 'workflows', 'windows.yml'), 'utf8');
    for (const mode of ['/w', '/h']) expect(workflow).toContain(`/v ${mode} kext\\netverdict.inf`);
  });
});
