/** The driver's entries in the system's event log: their texts, their registration and their documentation. */

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { messages } from './pe_image.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const read = (...path: readonly string[]): string => readFileSync(join(root, ...path), 'utf8');

const LEVELS = { INFORMATION: 0x4004_0000, WARNING: 0x8004_0000, ERROR: 0xc004_0000 } as const;

/** The events that the driver writes, by name: level and id. */
const written = [
  ...read('kext', 'system_log.c').matchAll(
    /\[(SystemEvent\w+)\] = SYSTEM_LOG_(INFORMATION|WARNING|ERROR)\((\d+)\),/g,
  ),
].map(([, name, level, id]) => ({
  name: name!,
  level: level as keyof typeof LEVELS,
  id: Number(id),
}));

const declared = [...read('kext', 'system_log.h').matchAll(/^ {4}(SystemEvent\w+),/gm)].map(
  ([, name]) => name!,
);

const texts = messages(readFileSync(join(root, 'build', 'kext-mingw', 'kext', 'netverdict.sys')));

describe('the texts of the event log', () => {
  it('are in the driver, one for each event that it writes and no other', () => {
    expect(written.length).toBeGreaterThan(4);
    expect(written.map(({ name }) => name)).toEqual(declared);
    const codes = written.map(({ level, id }) => LEVELS[level] + id);
    expect([...texts.keys()].sort()).toEqual(codes.sort());
  });

  it.each(written)('name the product and its device: $name', ({ level, id }) => {
    expect(texts.get(LEVELS[level] + id)).toMatch(/^netverdict \(%1\)/);
  });

  it.each(written.filter(({ level }) => level !== 'INFORMATION'))(
    'name a cure: $name',
    ({ level, id }) => {
      expect(texts.get(LEVELS[level] + id)).toMatch(/^Cure: \w/m);
    },
  );

  it('insert only what an entry has', () => {
    for (const text of texts.values()) {
      expect([...text.matchAll(/%(\S)/g)].filter(([, what]) => !'123'.includes(what!))).toEqual([]);
    }
  });
});

describe('the INF', () => {
  const inf = read('kext', 'netverdict.inf');

  it('registers the driver as the message file of its service', () => {
    expect(
      inf.match(/^AddService = %ServiceName%, , Netverdict\.Service, Netverdict\.EventLog$/gm),
    ).toHaveLength(2);
    expect(inf).toMatch(/^\[Netverdict\.EventLog\]\nAddReg = Netverdict\.EventLog\.AddReg$/m);
    expect(inf).toMatch(/^HKR, , EventMessageFile, 0x00020000, %13%\\netverdict\.sys\b/m);
    expect(inf).toMatch(/^HKR, , TypesSupported, 0x00010001, 7\b/m);
  });

  it('removes the registration with the service', () => {
    const SPSVCINST_DELETEEVENTLOGENTRY = 0x4;
    const flags = [...inf.matchAll(/^DelService = %ServiceName%, (0x[0-9a-f]+)/gm)];
    expect(flags).toHaveLength(2);
    for (const [, value] of flags)
      expect(Number(value) & SPSVCINST_DELETEEVENTLOGENTRY).not.toBe(0);
  });
});

describe('docs/windows.md', () => {
  it('has a row for each event', () => {
    const rows = [
      ...read('docs', 'windows.md').matchAll(/^\| (\d) +\| (information|warning|error) +\|/gm),
    ];
    expect(rows.map(([, id, level]) => [Number(id), level])).toEqual(
      written.map(({ id, level }) => [id, level.toLowerCase()]),
    );
  });
});
