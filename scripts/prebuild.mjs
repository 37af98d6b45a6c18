// Fills prebuilds/ for node-gyp-build: `npm run prebuild [-- <platform>-<arch>…]`.
// node-gyp builds this computer's addon. mingw-w64 builds the addon and the driver for Windows.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './testing/run.mjs';
import { provideTools } from './testing/tools.mjs';

const host = `${process.platform}-${process.arch}`;

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed${error ? `: ${error}` : ''}`);
}

function cmake(preset) {
  run('cmake', '--preset', preset);
  run('cmake', '--build', '--preset', preset);
}

/** Copies build results into an empty folder of prebuilds/. */
function fill(target, files) {
  const folder = join(root, 'prebuilds', target);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, source] of Object.entries(files)) {
    copyFileSync(join(root, source), join(folder, name));
  }
  return folder;
}

function prebuildHost() {
  run('npm', 'run', 'build:addon');
  const folder = fill(host, { 'netverdict.node': 'build/Release/netverdict.node' });
  run(
    'strip',
    process.platform === 'darwin' ? '-x' : '--strip-unneeded',
    join(folder, 'netverdict.node'),
  );
}

function prebuildWindows() {
  const missing = provideTools(['cmake', 'ninja', 'x86_64-w64-mingw32-g++-posix']);
  if (missing.size > 0) throw new Error('Windows binaries cannot be built without these programs.');
  cmake('addon-mingw');
  cmake('kext-mingw');
  fill('win32-x64', {
    'netverdict.node': 'build/addon-mingw/addon/netverdict.node',
    'netverdict.sys': 'build/kext-mingw/kext/netverdict.sys',
    'netverdict.inf': 'kext/netverdict.inf',
  });
}

const builders = { [host]: prebuildHost, 'win32-x64': prebuildWindows };
const chosen = process.argv.slice(2);
const unknown = chosen.filter((target) => !(target in builders));
if (unknown.length > 0) {
  console.error(
    `Cannot build ${unknown.join(', ')} here. Targets: ${Object.keys(builders).join(', ')}.`,
  );
  process.exit(2);
}
try {
  for (const target of chosen.length > 0 ? chosen : Object.keys(builders)) builders[target]();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
