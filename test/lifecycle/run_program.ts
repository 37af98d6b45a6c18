/** Runs a program in a separate process, with the built package. */

import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface ProgramResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that has not ended by then hangs. */
export const PROGRAM_TIMEOUT_MS = 120_000;

/** Makes the C library overwrite freed memory, so that a late use crashes. */
export const OVERWRITE_FREED = {
  MALLOC_PERTURB_: '92',
  GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0',
};

/**
 * Runs `programs/<name>.mjs` to its end, with `environment` added to this process's environment.
 * Its output goes to files, because Node.js refuses pipes under Wine.
 */
export async function runProgram(
  name: string,
  nodeOptions: readonly string[] = [],
  environment: NodeJS.ProcessEnv = {},
): Promise<ProgramResult> {
  const path = fileURLToPath(new URL(`programs/${name}.mjs`, import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-lifecycle-'));
  const outputs = { stdout: join(folder, 'stdout'), stderr: join(folder, 'stderr') };
  const files = Object.values(outputs).map((output) => openSync(output, 'w'));
  const child = spawn(process.execPath, [...nodeOptions, path], {
    stdio: ['ignore', ...files],
    env: { ...process.env, ...environment },
    timeout: PROGRAM_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  try {
    const { code, signal } = await new Promise<Pick<ProgramResult, 'code' | 'signal'>>(
      (resolve, reject) => {
        child.on('error', reject).on('exit', (code, signal) => {
          resolve({ code, signal });
        });
      },
    );
    const [stdout, stderr] = [outputs.stdout, outputs.stderr].map((output) =>
      readFileSync(output, 'utf8'),
    );
    return { code, signal, stdout: stdout!, stderr: stderr! };
  } finally {
    files.forEach((file) => {
      closeSync(file);
    });
    rmSync(folder, { recursive: true, force: true });
  }
}
