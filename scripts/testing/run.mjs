// Runs one command of a test group; its output is kept for the report of a failure.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const outputDirectory = join(root, 'build', 'test');

/** Resolves to `{ok, output}`; never rejects, a command that cannot be started is one that failed. */
export function run(command, args) {
  return new Promise((resolve) => {
    const chunks = [`$ ${command} ${args.join(' ')}\n`];
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => chunks.push(`${error.message}\n`));
    child.on('close', (code) => resolve({ ok: code === 0, output: chunks.join('') }));
  });
}

/** A tool of node_modules, run by this Node.js. */
export function runScript(path, args) {
  return run(process.execPath, [join(root, 'node_modules', path), ...args]);
}
