import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const project = mkdtempSync(join(tmpdir(), 'netverdict-package-'));
const INSTALL_TIMEOUT_MS = 540_000;

/** Returns the example from the README. */
function readmeExample(): string {
  const example = /^```js\n(.*?)^```$/ms.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1];
  if (example === undefined) throw new Error('README.md has no example');
  return example;
}

function asCommonJs(example: string): string {
  return example.replace(/^import (\{.*?\}) from ('netverdict');$/m, 'const $1 = require($2);');
}

function npm(args: readonly string[], cwd: string): void {
  const result = spawnSync('npm', args, { cwd, encoding: 'utf8' });
  if (result.status !== 0) {
    throw new Error(`npm ${args.join(' ')}\n${result.stdout}${result.stderr}`);
  }
}

function runInProject(...args: string[]): string {
  return execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8' });
}

function writeInProject(name: string, text: string): void {
  writeFileSync(join(project, name), text);
}

const expectedOutput = [
  'process 4242 → 192.0.2.1:23',
  'process 812 → 192.0.2.1:443',
  'telnet: blocked web: permitted',
];

function linesOf(output: string): string[] {
  return output.trim().split('\n');
}

beforeAll(() => {
  npm(['pack', '--ignore-scripts', '--pack-destination', project], root);
  writeInProject('package.json', JSON.stringify({ name: 'an-app', private: true }));
  const { typescript } = manifest.devDependencies;
  npm(
    [
      'install',
      '--build-from-source',
      `./netverdict-${manifest.version}.tgz`,
      `typescript@${typescript}`,
      `@types/node@${manifest.devDependencies['@types/node']}`,
    ],
    project,
  );
}, INSTALL_TIMEOUT_MS);

afterAll(() => {
  rmSync(project, { recursive: true, force: true });
});

describe('the packed package in an empty project', () => {
  it("runs the README's example from ESM", () => {
    writeInProject('example.mjs', readmeExample());
    expect(linesOf(runInProject('example.mjs'))).toEqual(expectedOutput);
  });

  it("runs the README's example from CommonJS", () => {
    writeInProject('example.cjs', asCommonJs(readmeExample()));
    expect(linesOf(runInProject('example.cjs'))).toEqual(expectedOutput);
  });

  it.each(['mts', 'cts'])("compiles the README's example as strict TypeScript (.%s)", (format) => {
    writeInProject(`typed.${format}`, readmeExample());
    runInProject(
      join('node_modules', 'typescript', 'bin', 'tsc'),
      ...['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess'],
      ...['--module', 'nodenext', '--target', 'es2022', '--types', 'node', `typed.${format}`],
    );
    const compiled = `typed.${format.replace('ts', 'js')}`;
    expect(linesOf(runInProject(compiled))).toEqual(expectedOutput);
  });

  it('gives ESM and CommonJS the same exports, by name', () => {
    writeInProject(
      'exports.mjs',
      `import { createRequire } from 'node:module';
       import * as esm from 'netverdict';
       const cjs = createRequire(import.meta.url)('netverdict');
       const differing = Object.keys(cjs).filter((name) => esm[name] !== cjs[name]);
       console.log(JSON.stringify({ differing, names: Object.keys(cjs) }));`,
    );
    const { differing, names } = JSON.parse(runInProject('exports.mjs')) as {
      differing: string[];
      names: string[];
    };
    expect(differing).toEqual([]);
    expect(names).toEqual(expect.arrayContaining(['open', 'createSimulator', 'Verdict', 'Policy']));
  });

  it('installs the command line', () => {
    const program = join(project, 'node_modules', '.bin', 'netverdict');
    expect(execFileSync(program, ['--version'], { encoding: 'utf8' })).toBe(
      `${manifest.version}\n`,
    );
    const output = execFileSync(
      program,
      ['replay', join(root, 'captures', 'host-traffic.pcap'), '--json'],
      { encoding: 'utf8' },
    );
    expect(JSON.parse(output.trim().split('\n').at(-1)!)).toMatchObject({
      type: 'summary',
      connections: { tcp: 51, udp: 7 },
    });
  });

  it('contains the needed files and no others', () => {
    const unwanted = ['bench', 'captures', 'docs', 'examples', 'lib', 'test'];
    const present = readdirSync(join(project, 'node_modules', 'netverdict'));
    expect(present.filter((name) => unwanted.includes(name))).toEqual([]);
  });
});

describe('the packed package with prebuilt addons', () => {
  const target = `${process.platform}-${process.arch}`;
  const prebuilds = join(root, 'prebuilds');
  const hadPrebuilds = existsSync(prebuilds);
  const app = mkdtempSync(join(tmpdir(), 'netverdict-prebuilt-'));

  beforeAll(() => {
    npm(['run', 'prebuild'], root);
    npm(['pack', '--ignore-scripts', '--pack-destination', app], root);
    writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'an-app', private: true }));
    npm(['install', '--ignore-scripts', `./netverdict-${manifest.version}.tgz`], app);
  }, INSTALL_TIMEOUT_MS);

  afterAll(() => {
    rmSync(app, { recursive: true, force: true });
    if (!hadPrebuilds) rmSync(prebuilds, { recursive: true, force: true });
  });

  const packed = (platform: string, name: string): string =>
    join(app, 'node_modules', 'netverdict', 'prebuilds', platform, name);

  it('contains the addons of this computer and of Windows, with the driver and its INF', () => {
    const files = readdirSync(join(app, 'node_modules', 'netverdict', 'prebuilds'), {
      recursive: true,
      encoding: 'utf8',
    });
    expect(files).toEqual(
      expect.arrayContaining([
        join(target, 'netverdict.node'),
        ...['node', 'sys', 'inf'].map((ending) => join('win32-x64', `netverdict.${ending}`)),
      ]),
    );
  });

  it.each(['node', 'sys'])('contains no symbols in netverdict.%s for Windows', (ending) => {
    const image = readFileSync(packed('win32-x64', `netverdict.${ending}`));
    const header = image.readUInt32LE(0x3c);
    expect(image.toString('latin1', header, header + 4)).toBe('PE\0\0');
    expect([image.readUInt32LE(header + 12), image.readUInt32LE(header + 16)]).toEqual([0, 0]);
  });

  it.runIf(process.platform === 'linux')('contains no symbols in netverdict.node for Linux', () => {
    const sections = execFileSync('readelf', ['-SW', packed(target, 'netverdict.node')], {
      encoding: 'utf8',
    });
    expect(sections).toContain('.dynsym');
    expect(sections).not.toContain('.symtab');
    expect(sections).not.toContain('.debug_info');
  });

  it("runs the README's example after an installation without scripts or a compiler", () => {
    expect(existsSync(join(app, 'node_modules', 'netverdict', 'build'))).toBe(false);
    writeFileSync(join(app, 'example.mjs'), readmeExample());
    const output = execFileSync(process.execPath, ['example.mjs'], { cwd: app, encoding: 'utf8' });
    expect(linesOf(output)).toEqual(expectedOutput);
  });
});
