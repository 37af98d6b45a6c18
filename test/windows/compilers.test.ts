/** Compiles the driver's sources with other compilers, and for another processor than mingw-w64's x64. */

import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sectionCharacteristics, SectionFlag } from './pe_image.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const headers = '/usr/x86_64-w64-mingw32/include';
const LIMIT_MS = 240_000;

function run(program: string, args: readonly string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: root, encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
}

describe('the driver’s sources', () => {
  it('compile without warnings in Microsoft’s dialect of C', { timeout: LIMIT_MS }, () => {
    const sources = readdirSync(join(root, 'kext')).filter((name) => name.endsWith('.c'));
    const builtin = run('clang-19', ['-print-resource-dir']).output.trim();
    const result = run('clang-19', [
      // mingw-w64's headers require GNU C; the driver's sources do not.
      ...['--target=x86_64-pc-windows-msvc', '-fgnuc-version=4.2.1'],
      ...['-std=c17', '-fsyntax-only', '-ffreestanding', '-nostdinc'],
      ...['-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas', '-Wno-multichar'],
      ...['-DKEXT_MINGW_DDK', '-DNDIS_SUPPORT_NDIS630=1', '-DNDIS630=1'],
      ...['-D_WIN32_WINNT=0x0A00', '-DNTDDI_VERSION=0x0A000000'],
      ...['-Ikext/wdk', '-Ikext'],
      ...['-isystem', join(builtin, 'include'), '-isystem', `${headers}/ddk`, '-isystem', headers],
      ...sources.map((name) => `kext/${name}`),
    ]);
    expect(result).toEqual({ status: 0, output: '' });
  });

  it('compile and link for 64-bit ARM', { timeout: LIMIT_MS }, () => {
    for (const args of [['--preset'], ['--build', '--preset']]) {
      const { status, output } = run('cmake', [...args, 'kext-clang-arm64']);
      expect(status, output).toBe(0);
    }
    const image = readFileSync(join(root, 'build', 'kext-clang-arm64', 'kext', 'netverdict.sys'));
    const header = image.readUInt32LE(0x3c);
    expect(image.toString('latin1', header, header + 4)).toBe('PE\0\0');
    expect(image.readUInt16LE(header + 4)).toBe(0xaa64);
    expect(sectionCharacteristics(image, 'INIT') & SectionFlag.Discardable).not.toBe(0);
  });
});
