// The package's install step. If no prebuilt addon fits, it compiles one on every core.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** The package has no tests, so a folder with tests is a checkout. */
const isCheckout = existsSync(join(root, 'scripts', 'test.mjs'));
const isAskedToCompile = process.env.npm_config_build_from_source === 'true';

const NEEDED = `It needs Python 3, make and a C++17 compiler. On Debian or Ubuntu, as root:
  apt-get install python3 make g++
on macOS: xcode-select --install; on Windows: the "Desktop development with C++" workload of Visual Studio.`;

function prebuildFits() {
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

function install() {
  if (!isAskedToCompile && prebuildFits()) return;
  const reason = isAskedToCompile
    ? 'built from source, as asked'
    : `no prebuilt addon for ${process.platform}-${process.arch}`;
  console.log(`netverdict: ${reason}: compiling`);
  if (compile()) return;
  const failure = `netverdict: the native addon could not be compiled (see the reason above). ${NEEDED}`;
  if (isCheckout) {
    console.warn(
      `${failure}\nOn Debian, npm test installs the missing programs as root, and compiles.`,
    );
  } else {
    console.error(`${failure}\nThen run npm install again.`);
    process.exitCode = 1;
  }
}

install();
