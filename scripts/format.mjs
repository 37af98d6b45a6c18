// Formats every file: clang-format for C and C++, Prettier for the rest. With --check it only names unformatted files.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const check = process.argv.includes('--check');

function nativeSources() {
  return ['addon', 'bench', 'kext', 'sim', 'test'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(c|h|cc)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name)),
  );
}

function succeeds(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (result.error) console.error(`${command}: ${result.error.message}`);
  return result.status === 0;
}

const prettier = join(root, 'node_modules', 'prettier', 'bin', 'prettier.cjs');
const results = [
  succeeds(process.execPath, [prettier, check ? '--check' : '--write', '--log-level=warn', '.']),
  succeeds('clang-format-19', [
    ...(check ? ['--dry-run', '--Werror'] : ['-i']),
    ...nativeSources(),
  ]),
];
process.exitCode = results.every(Boolean) ? 0 : 1;
