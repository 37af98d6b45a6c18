import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const bundledCapture = join(root, 'captures', 'host-traffic.pcap');
export const bundledLocal = ['--local', '10.77.0.2', '--local', 'fd77::2'];

const program = join(root, 'dist', 'cli', 'main.js');

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function startCli(...args: string[]) {
  return spawn(process.execPath, [program, ...args], { cwd: root });
}

/** Runs the command line of dist/ to its end. */
export async function runCli(...args: string[]): Promise<CliResult> {
  const child = startCli(...args);
  child.stdin.end();
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  return { code, ...output };
}

/** One line of `--json` output. */
export interface JsonLine {
  readonly type: string;
  readonly [field: string]: unknown;
}

export function parseJsonLines(text: string): JsonLine[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as JsonLine);
}

/** Replays a capture and returns its JSON lines. */
export async function replayJson(capture: string, ...args: string[]): Promise<JsonLine[]> {
  const result = await runCli('replay', capture, '--json', ...args);
  if (result.code !== 0) {
    throw new Error(`replay of ${capture} ended with ${String(result.code)}: ${result.stderr}`);
  }
  return parseJsonLines(result.stdout);
}
