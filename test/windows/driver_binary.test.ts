/** The driver's binary, as mingw-w64 links it: what Windows and its policies ask of a driver image. */

import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const binary = join(root, 'build', 'kext-mingw', 'kext', 'netverdict.sys');

function objdump(option: string): string {
  return execFileSync('x86_64-w64-mingw32-objdump', [option, binary], { encoding: 'utf8' });
}

const headers = objdump('-p');

function headerField(name: string): string {
  const value = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(headers)?.[1];
  if (value === undefined) throw new Error(`objdump shows no ${name}`);
  return value;
}

function imports(): string[] {
  return [...headers.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name!.toLowerCase());
}

describe('netverdict.sys', () => {
  it('is of the native subsystem, for Windows 10', () => {
    expect(headerField('Subsystem')).toBe('00000001');
    expect(headerField('MajorSubsystemVersion')).toBe('10');
  });

  it.each(['DYNAMIC_BASE', 'NX_COMPAT', 'FORCE_INTEGRITY', 'HIGH_ENTROPY_VA'])('has %s', (flag) => {
    expect(headers).toMatch(new RegExp(`^\\s+${flag}$`, 'm'));
  });

  it('imports from the kernel, NDIS and the filter engine alone', () => {
    const allowed = ['ntoskrnl.exe', 'ndis.sys', 'fwpkclnt.sys', 'netio.sys', 'hal.dll'];
    expect(imports().filter((name) => !allowed.includes(name))).toEqual([]);
    expect(imports()).toContain('fwpkclnt.sys');
  });

  it('has no section that is both writable and executable', () => {
    const sections = objdump('-h').match(/^\s+\d+ .*\n.*$/gm) ?? [];
    expect(sections.length).toBeGreaterThan(3);
    expect(
      sections.filter((section) => section.includes('CODE') && !section.includes('READONLY')),
    ).toEqual([]);
  });

  it('is entered in the section that Windows frees after the start', () => {
    const [, size, address] = /^\s+\d+ INIT\s+([0-9a-f]+)\s+([0-9a-f]+)/m.exec(objdump('-h'))!;
    const start = Number(BigInt(`0x${address!}`) - BigInt(`0x${headerField('ImageBase')}`));
    const entry = Number.parseInt(headerField('AddressOfEntryPoint'), 16);
    expect(entry).toBeGreaterThanOrEqual(start);
    expect(entry).toBeLessThan(start + Number.parseInt(size!, 16));
  });

  it('is below 96 KiB', () => {
    expect(statSync(binary).size).toBeLessThan(96 * 1024);
  });

  it('carries its version', () => {
    expect(objdump('-h')).toContain('.rsrc');
  });
});
