/**
 * Reads that keep their thread, as a driver of the base protocol does with the reads of its client.
 * Nothing here waits for a record, because none comes.
 */

import { describe, expect, it } from 'vitest';
import { OVERWRITE_FREED, PROGRAM_TIMEOUT_MS, runProgram } from './run_program.js';

const timeout = PROGRAM_TIMEOUT_MS + 15_000;
/** The end of a process has as long as a close, and what Node.js itself takes on a busy machine. */
const LONGEST_END_MS = 5000;

/** What ends the reads. Only an addon that is built for tests has a driver whose reads a cancel does not end. */
const isForTests = 'NETVERDICT_PREBUILD' in process.env;
const readsEnd = isForTests ? ['cancel', 'shutdown', 'nothing'] : ['the driver’s own cancel'];

/** Runs a program whose last line is the time at which it is about to end. Returns the other lines. */
async function runToEnd(
  name: string,
  environment: NodeJS.ProcessEnv,
  nodeOptions: readonly string[] = [],
): Promise<{ code: number | null; signal: NodeJS.Signals | null; lines: string[] }> {
  const { code, signal, stdout } = await runProgram(name, nodeOptions, environment);
  const ended = Date.now();
  const lines = stdout.trim().split('\n');
  expect(ended - Number(lines.pop())).toBeLessThan(LONGEST_END_MS);
  return { code, signal, lines };
}

describe.concurrent.each(readsEnd)('a read that is ended by %s', { timeout }, (end) => {
  const environment = { ...OVERWRITE_FREED, ...(isForTests ? { NETVERDICT_TEST_READS: end } : {}) };

  it('lets its device close within a second', async () => {
    expect(await runProgram('kept_close', [], environment)).toEqual({
      code: 0,
      signal: null,
      stdout: 'closed within a second\n',
      stderr: '',
    });
  });

  it('lets an aborted device close within a second', async () => {
    const stdout = 'closed within a second\n';
    expect(await runProgram('kept_abort', [], environment)).toMatchObject({ code: 0, stdout });
  });

  it('does not delay the exit of the process', async () => {
    const result = await runToEnd('kept_exit', environment);
    expect(result).toEqual({ code: 7, signal: null, lines: [] });
  });

  it('does not delay the end of a process that is killed', async () => {
    const result = await runToEnd('kept_kill', environment);
    const killed =
      process.platform === 'win32' ? { code: 1, signal: null } : { code: null, signal: 'SIGKILL' };
    expect(result).toEqual({ ...killed, lines: [] });
  });

  it('does not keep the process of an unref’d device alive', async () => {
    const result = await runToEnd('kept_unref', environment);
    expect(result).toEqual({ code: 0, signal: null, lines: [] });
  });

  it('lets a forgotten device be collected', async () => {
    const result = await runToEnd('kept_collect', environment, ['--expose-gc']);
    expect(result).toEqual({ code: 0, signal: null, lines: ['warned'] });
  });

  it('lets its worker be terminated', async () => {
    const stdout = 'terminated in time\n';
    expect(await runProgram('kept_worker', [], environment)).toMatchObject({ code: 0, stdout });
  });

  it('lets the process open and close devices one after the other', async () => {
    const result = await runToEnd('kept_open_again', environment);
    expect(result).toEqual({ code: 0, signal: null, lines: [] });
  });
});
