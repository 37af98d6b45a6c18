/** Runs a program of its own process, with the package as it was built. */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface ProgramResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that has not ended by then hangs. */
export const PROGRAM_TIMEOUT_MS = 120_000;

/** Runs `programs/<name>.mjs` to its end; `environment` is added to that of this process. */
export async function runProgram(
  name: string,
  nodeOptions: readonly string[] = [],
  environment: NodeJS.ProcessEnv = {},
): Promise<ProgramResult> {
  const path = fileURLToPath(new URL(`programs/${name}.mjs`, import.meta.url));
  const child = spawn(process.execPath, [...nodeOptions, path], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    timeout: PROGRAM_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code, signal) => {
      resolve({ code, signal, ...output });
    });
  });
}
