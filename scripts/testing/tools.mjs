// The programs that the test groups need beside Node.js, and their Debian packages.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** name → Debian package, and a file that shows the installation. Without a file it is the program on PATH. */
const tools = {
  make: { package: 'make' },
  'g++': { package: 'g++' },
  python3: { package: 'python3' },
  cmake: { package: 'cmake' },
  ninja: { package: 'ninja-build' },
  gtest: { package: 'libgtest-dev', file: '/usr/include/gtest/gtest.h' },
  gmock: { package: 'libgmock-dev', file: '/usr/include/gmock/gmock.h' },
  benchmark: { package: 'libbenchmark-dev', file: '/usr/include/benchmark/benchmark.h' },
  'x86_64-w64-mingw32-gcc': { package: 'mingw-w64' },
  'x86_64-w64-mingw32-g++-posix': { package: 'g++-mingw-w64-x86-64' },
  wine: { package: 'wine' },
  wine64: { package: 'wine64', file: '/usr/lib/wine/wine64' },
  'clang-19': { package: 'clang-19' },
  libFuzzer: { package: 'libclang-rt-19-dev', file: '/usr/lib/llvm-19/lib/clang/19/lib/linux' },
  'lld-link-19': { package: 'lld-19' },
  'clang-format-19': { package: 'clang-format-19' },
  'clang-tidy-19': { package: 'clang-tidy-19' },
  tshark: { package: 'tshark' },
  spin: { package: 'spin' },
  ip: { package: 'iproute2' },
};

function onPath(program) {
  return process.env.PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function isMissing(name) {
  const { file } = tools[name];
  return file ? !existsSync(file) : !onPath(name);
}

function install(packages) {
  const options = {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  spawnSync('apt-get', ['update', '-q'], options);
  spawnSync('apt-get', ['install', '-qy', '--no-install-recommends', ...packages], options);
}

/** Installs the missing tools if it can. Returns tool → package of those that are still missing. */
export function provideTools(names) {
  const missing = [...names].filter(isMissing);
  if (missing.length === 0) return new Map();
  const packages = missing.map((name) => tools[name].package);
  if (process.getuid?.() === 0 && onPath('apt-get')) {
    console.log(`Installing ${packages.join(', ')}`);
    install(packages);
  }
  const left = new Map(missing.filter(isMissing).map((name) => [name, tools[name].package]));
  if (left.size > 0) {
    console.log(
      'Some checks need programs that are not installed. On Debian or Ubuntu, as root:\n' +
        `  apt-get update && apt-get install --no-install-recommends ${[...left.values()].join(' ')}`,
    );
  }
  return left;
}
