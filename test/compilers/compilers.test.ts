/** Compiles the driver's sources with other compilers, and for another processor than mingw-w64's x64. */

import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sectionCharacteristics, SectionFlag } from '../windows/pe_image.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const headers = '/usr/x86_64-w64-mingw32/include';
const sources = readdirSync(join(root, 'kext'))
  .filter((name) => name.endsWith('.c'))
  .map((name) => `kext/${name}`);
const LIMIT_MS = 240_000;

function run(
  program: string,
  args: readonly string[],
  input?: string,
): { status: number | null; output: string } {
  const options = { cwd: root, encoding: 'utf8', input } as const;
  const { status, stdout, stderr } = spawnSync(program, args, options);
  return { status, output: `${stdout}${stderr}` };
}

/** Finds aggregates with a value that is not constant. C89 does not have them, so Clang warns of each in that dialect. */
function variableAggregates(files: readonly string[], input?: string): string[] {
  const { output } = run(
    'clang-19',
    [
      ...['-x', 'c', '-std=gnu89', '-fsyntax-only', '-fshort-wchar', '-ferror-limit=0'],
      ...['-Wno-everything', '-Wc99-extensions'],
      ...['-DNDIS_SUPPORT_NDIS630=1', '-DNDIS630=1', '-Isim/include', '-Ikext/wdk', '-Ikext'],
      ...files,
    ],
    input,
  );
  if (/\berror:/.test(output)) throw new Error(output);
  return output
    .split('\n')
    .filter((line) => line.includes('initializer for aggregate is not a compile-time constant'));
}

/** Asserts, when it compiles, how many bytes the driver takes for a cache line. */
function assertCacheLine(bytes: number, target: string, ...options: readonly string[]): string {
  const { output } = run(
    'clang-19',
    [
      ...[`--target=${target}`, '-x', 'c', '-fsyntax-only', '-ffreestanding', '-Wno-everything'],
      ...['-DKEXT_MINGW_DDK', '-DNDIS_SUPPORT_NDIS630=1', '-DNDIS630=1', ...options],
      ...['-Ikext/wdk', '-Ikext', '-isystem', `${headers}/ddk`, '-isystem', headers, '-'],
    ],
    `#include "platform.h"\nstatic_assert(PLATFORM_CACHE_LINE == ${bytes}, "cache line");\n`,
  );
  return output;
}

describe('the driver’s sources', () => {
  it('compile without warnings in Microsoft’s dialect of C', { timeout: LIMIT_MS }, () => {
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
      ...sources,
    ]);
    expect(result).toEqual({ status: 0, output: '' });
  });

  it(
    'initialize aggregates by constants alone, as Visual C at /W4 requires',
    { timeout: LIMIT_MS },
    () => {
      const probe = 'int sum(int a) { int pair[2] = {a, 1}; return pair[0] + pair[1]; }\n';
      expect(variableAggregates(['-'], probe)).toHaveLength(1);
      expect(variableAggregates(['-'], probe.replace('{a, 1}', '{0, 1}'))).toEqual([]);
      expect(sources.length).toBeGreaterThan(30);
      expect(variableAggregates(sources)).toEqual([]);
    },
  );

  it('pad for the cache lines of each processor', () => {
    const arm = ['-D_M_ARM', '-isystem', 'kext/wdk/aarch64'];
    expect(assertCacheLine(64, 'x86_64-w64-windows-gnu')).toBe('');
    expect(assertCacheLine(128, 'x86_64-w64-windows-gnu')).toContain('static assertion failed');
    expect(assertCacheLine(128, 'aarch64-w64-windows-gnu', ...arm)).toBe('');
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
