/** The driver's binary, as mingw-w64 links it: the properties that Windows and its policies require of a driver. */

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { builds, imports, OLDEST_BUILD } from './imports.js';
import { sectionCharacteristics, SectionFlag } from './pe_image.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const binary = join(root, 'build', 'kext-mingw', 'kext', 'netverdict.sys');

const objects = join(root, 'build', 'kext-mingw', 'kext', 'CMakeFiles', 'netverdict.dir');

function objdump(option: string, file = binary): string {
  return execFileSync('x86_64-w64-mingw32-objdump', [option, file], { encoding: 'utf8' });
}

const headers = objdump('-p');

function headerField(name: string): string {
  const value = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(headers)?.[1];
  if (value === undefined) throw new Error(`objdump shows no ${name}`);
  return value;
}

function importedLibraries(): string[] {
  return [...headers.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name!.toLowerCase());
}

/** Functions, from the lines `<address> <ordinal> <name>`. */
function importedFunctions(): string[] {
  const tables = headers.slice(0, headers.indexOf('The Export Tables'));
  return [...tables.matchAll(/^\t[0-9a-f]+\t\s+\d+\s+(\w+)$/gm)].map(([, name]) => name!);
}

/** The sum of the file's 16-bit words, with carry, plus its length. */
function checksum(image: Buffer): number {
  const field = image.readUInt32LE(0x3c) + 24 + 64;
  let sum = 0;
  for (let at = 0; at < image.length; at += 2) {
    if (at === field || at === field + 2) continue;
    sum += image.readUInt16LE(at);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return sum + image.length;
}

/** The functions that the sources mark for the section that is freed after the start. */
function initFunctions(): string[] {
  const folders = ['kext', 'kext/wdk'];
  const sources = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.c'))
      .map((name) => readFileSync(join(root, folder, name), 'utf8')),
  );
  const marked = /^PLATFORM_INIT\n[^\n(]*?(\w+)\(/gm;
  return sources.flatMap((text) => [...text.matchAll(marked)].map(([, name]) => name!));
}

const objectFiles = readdirSync(objects, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.c.obj'))
  .map((name) => join(objects, name));

/** Maps functions to their sections; functions that the compiler has inlined have none. */
function sectionsOfFunctions(): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of objectFiles) {
    const dump = objdump('-ht', file);
    const names = [...dump.matchAll(/^\s+(\d+) (\S+)\s+[0-9a-f]{8} /gm)].map(([, , name]) => name!);
    for (const [, section, name] of dump.matchAll(/\(sec\s+(\d+)\).*\(ty\s+20\).* (\w+)$/gm)) {
      if (section !== '0') found.set(name!, names[Number(section) - 1]!); // 0: defined in another object
    }
  }
  return found;
}

/** The names that code outside INIT refers to. */
function namesOutsideInit(): string[] {
  return objectFiles.flatMap((file) =>
    [
      ...objdump('-r', file).matchAll(/^RELOCATION RECORDS FOR \[\.text.*\]:\n((?:\S.*\n)*)/gm),
    ].flatMap(([, records]) =>
      [...records!.matchAll(/ (\w+)(?:[+-]0x[0-9a-f]+)?$/gm)].map(([, name]) => name!),
    ),
  );
}

describe('netverdict.sys', () => {
  it('has the native subsystem, for Windows 10', () => {
    expect(headerField('Subsystem')).toBe('00000001');
    expect(headerField('MajorSubsystemVersion')).toBe('10');
  });

  it.each(['DYNAMIC_BASE', 'NX_COMPAT', 'FORCE_INTEGRITY', 'HIGH_ENTROPY_VA'])('has %s', (flag) => {
    expect(headers).toMatch(new RegExp(`^\\s+${flag}$`, 'm'));
  });

  it('imports only from the kernel, NDIS and the filter engine', () => {
    const allowed = ['ntoskrnl.exe', 'ndis.sys', 'fwpkclnt.sys', 'netio.sys', 'hal.dll'];
    expect(importedLibraries().filter((name) => !allowed.includes(name))).toEqual([]);
    expect(importedLibraries()).toContain('fwpkclnt.sys');
  });

  it('imports only functions that Windows 10 1809 has', () => {
    const known = Object.values(imports).flat();
    expect(importedFunctions().length).toBeGreaterThan(50);
    expect(importedFunctions().filter((name) => !known.includes(name))).toEqual([]);
    expect(Math.max(...Object.values(builds))).toBeLessThanOrEqual(OLDEST_BUILD);
  });

  it('has no section that is both writable and executable', () => {
    const sections = objdump('-h').match(/^\s+\d+ .*\n.*$/gm) ?? [];
    expect(sections.length).toBeGreaterThan(3);
    expect(
      sections.filter((section) => section.includes('CODE') && !section.includes('READONLY')),
    ).toEqual([]);
  });

  it('has its entry point in the section that Windows frees after the start', () => {
    const [, size, address] = /^\s+\d+ INIT\s+([0-9a-f]+)\s+([0-9a-f]+)/m.exec(objdump('-h'))!;
    const start = Number(BigInt(`0x${address!}`) - BigInt(`0x${headerField('ImageBase')}`));
    const entry = Number.parseInt(headerField('AddressOfEntryPoint'), 16);
    expect(entry).toBeGreaterThanOrEqual(start);
    expect(entry).toBeLessThan(start + Number.parseInt(size!, 16));
  });

  it('has all of its start code in a section that is discarded', () => {
    const characteristics = sectionCharacteristics(readFileSync(binary), 'INIT');
    expect(characteristics & SectionFlag.Discardable).not.toBe(0);
    expect(characteristics & SectionFlag.Writable).toBe(0);
    const sections = sectionsOfFunctions();
    expect(initFunctions().length).toBeGreaterThan(8);
    expect(initFunctions().filter((name) => (sections.get(name) ?? 'INIT') !== 'INIT')).toEqual([]);
    expect(sections.get('DriverEntry')).toBe('INIT');
    expect(sections.get('PowerInitialize')).toBe('INIT');
    expect(sections.get('LogMayRepeat')).toBe('.text');
  });

  it('calls no discarded function', () => {
    const discarded = new Set([...initFunctions(), 'INIT']);
    const names = new Set(namesOutsideInit());
    expect(names).toContain('MemoryFree');
    expect([...names].filter((name) => discarded.has(name))).toEqual([]);
  });

  it('has the checksum that Windows computes', () => {
    const image = readFileSync(binary);
    expect(image.readUInt32LE(image.readUInt32LE(0x3c) + 24 + 64)).toBe(checksum(image));
  });

  it('is below 192 KiB', () => {
    expect(statSync(binary).size).toBeLessThan(192 * 1024);
  });

  it('carries the version of the package, as its INF does', () => {
    const image = readFileSync(binary);
    const fixed = image.indexOf(Buffer.from([0xbd, 0x04, 0xef, 0xfe])); // signature of VS_FIXEDFILEINFO
    const version = (at: number): string =>
      [2, 0, 6, 4].map((offset) => image.readUInt16LE(fixed + at + offset)).join('.');
    const expected = `${manifest.version}.0`;
    expect(version(8)).toBe(expected);
    expect(version(16)).toBe(expected);
    const texts = ['FileVersion', 'ProductVersion'].map((name) => {
      const at = image.indexOf(Buffer.from(`${name}\0`, 'utf16le'));
      return image.toString('utf16le', at, at + 64);
    });
    for (const text of texts) expect(text).toContain(`\0${expected}\0`);
    const inf = readFileSync(join(root, 'kext', 'netverdict.inf'), 'utf8');
    expect(/^DriverVer\s+=\s+\d\d\/\d\d\/\d{4},(\S+)$/m.exec(inf)?.[1]).toBe(expected);
  });
});

describe('the declarations that replace those of the WDK', () => {
  it('assert the size of every structure', () => {
    const folder = join(root, 'kext', 'wdk');
    const headers = readdirSync(folder).filter((name) => name.endsWith('.h'));
    const missing = headers.flatMap((header) => {
      const text = readFileSync(join(folder, header), 'utf8');
      const named = [
        ...text.matchAll(/^(?:typedef (?:struct|union)[^;{]*|struct \w+)\n\{$(.*?)^\}(.*);$/gms),
      ];
      const names = named.map(([whole, , after]) =>
        after === '' ? /^struct _(\w+)/.exec(whole)![1]! : /^\s*(\w+)/.exec(after!)![1]!,
      );
      return names.filter((name) => !text.includes(`ABI_ASSERT_SIZE(${name}, `));
    });
    expect(missing).toEqual([]);
  });
});
