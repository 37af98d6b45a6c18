// The package's install step: nothing to do where a prebuilt addon fits, else compile it on every core.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function prebuildFits() {
  if (process.env.npm_config_build_from_source === 'true') return false;
  process.env.PREBUILDS_ONLY = '1';
  try {
    createRequire(import.meta.url)('node-gyp-build')(root);
    return true;
  } catch {
    return false;
  }
}

function compile() {
  const options = { cwd: root, stdio: 'inherit' };
  const args = ['configure', 'build', '--jobs', 'max'];
  const bundled = process.env.npm_config_node_gyp;
  const result = bundled
    ? spawnSync(process.execPath, [bundled, ...args], options)
    : spawnSync('node-gyp', args, { ...options, shell: process.platform === 'win32' });
  return result.status === 0;
}

if (!prebuildFits() && !compile()) {
  console.error(
    'netverdict: the native addon could not be compiled (the reason stands above). It needs Python 3, make and a\n' +
      'C++17 compiler. On Debian or Ubuntu: apt-get install python3 make g++; on macOS: xcode-select --install;\n' +
      'on Windows: the "Desktop development with C++" workload of Visual Studio. Then run npm install again.',
  );
  process.exitCode = 1;
}
