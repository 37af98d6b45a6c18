/** Runs a program of its own process, with the package as it was built. */

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
const TIMEOUT_MS = 60_000;

/** Runs `programs/<name>.mjs` to its end. Its output goes through files: under Wine, Node.js refuses pipes. */
export async function runProgram(
  name: string,
  nodeOptions: readonly string[] = [],
): Promise<ProgramResult> {
  const path = fileURLToPath(new URL(`programs/${name}.mjs`, import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-lifecycle-'));
  const outputs = { stdout: join(folder, 'stdout'), stderr: join(folder, 'stderr') };
  const files = Object.values(outputs).map((output) => openSync(output, 'w'));
  const child = spawn(process.execPath, [...nodeOptions, path], {
    stdio: ['ignore', ...files],
    timeout: TIMEOUT_MS,
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
