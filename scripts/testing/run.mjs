// Runs one command of a test group, and keeps its output for the report of a failure.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const outputDirectory = join(root, 'build', 'test');

const running = new Set();

// A signal to this process ends its commands, which end their own.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    for (const child of running) child.kill('SIGTERM');
    process.exit(128 + constants.signals[signal]);
  });
}

/**
 * Resolves to `{ok, output}` and never rejects.
 * A command that cannot be started, or that takes longer than `timeoutMs`, has failed.
 */
export function run(command, args, environment = {}, timeoutMs = undefined) {
  return new Promise((resolve) => {
    const chunks = [`$ ${command} ${args.join(' ')}\n`];
    const env = { ...process.env, ...environment };
    const stdio = ['ignore', 'pipe', 'pipe'];
    const limits = { timeout: timeoutMs, killSignal: 'SIGKILL' };
    const child = spawn(command, args, { cwd: root, env, stdio, ...limits });
    running.add(child);
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => chunks.push(`${error.message}\n`));
    child.on('close', (code, signal) => {
      running.delete(child);
      if (signal !== null) chunks.push(`ended by ${signal}\n`);
      resolve({ ok: code === 0, output: chunks.join('') });
    });
  });
}

/** Runs a tool of node_modules with this Node.js. */
export function runScript(path, args, environment) {
  return run(process.execPath, [join(root, 'node_modules', path), ...args], environment);
}
