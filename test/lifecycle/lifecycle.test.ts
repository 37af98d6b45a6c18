import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  OVERWRITE_FREED,
  PROGRAM_TIMEOUT_MS,
  runProgram,
  type ProgramResult,
} from './run_program.js';

/** A program that hangs is ended before this timeout, so that the failure names it and shows its output. */
const timeout = PROGRAM_TIMEOUT_MS + 15_000;

/** Expects that the process ended with this code and wrote nothing to standard error. */
function expectEnd(result: ProgramResult, code: number, stdout: string): void {
  expect(result).toEqual({ code, signal: null, stdout, stderr: '' });
}

/**
 * Returns false where Linux promises all requested memory, or AddressSanitizer ends a process that requests too much.
 */
function isRefusedMemory(): boolean {
  return (
    process.platform === 'linux' &&
    !('ASAN_OPTIONS' in process.env) &&
    readFileSync('/proc/sys/vm/overcommit_memory', 'utf8').trim() !== '1'
  );
}

describe.concurrent('a process', { timeout }, () => {
  it('ends by itself once its device is closed', async () => {
    expectEnd(await runProgram('close_in_loop'), 0, 'loop ended\nclosed\n');
  });

  it('ends by itself once the driver has shut down and the device is closed', async () => {
    expectEnd(await runProgram('shutdown'), 0, 'connection\nloop ended\n');
  });

  it('that exits in the middle of a read neither hangs nor crashes', async () => {
    expectEnd(await runProgram('exit_in_read'), 7, 'exiting\n');
  });

  it('that exits while connections are made and decided neither hangs nor crashes', async () => {
    expectEnd(await runProgram('exit_under_load'), 8, 'exiting\n');
  });

  it('that exits while it closes neither hangs nor crashes', async () => {
    expectEnd(await runProgram('exit_in_close'), 9, '');
  });

  it('that fails in the middle of a loop ends with its failure', async () => {
    const result = await runProgram('throw_in_loop');
    expect(result).toMatchObject({ code: 1, signal: null });
    expect(result.stderr).toContain('the application failed');
  });

  it('is kept alive by an open device', async () => {
    expectEnd(await runProgram('ref'), 0, 'still there\nclosed\n');
  });

  it('is not kept alive by an open device that is unref’d', async () => {
    expectEnd(await runProgram('unref'), 0, 'unref’d\n');
  });

  it('is kept alive by awaited results of a simulator whose device is closed, and by nothing else', async () => {
    const stdout = 'held permitted\nbetween permitted, sent permitted\nload permitted 1000\n';
    expectEnd(await runProgram('close_device_alone'), 0, stdout);
  });

  it('that exits while the driver has its fifth client neither hangs nor crashes', async () => {
    expectEnd(await runProgram('second_client'), 6, '5 clients\n');
  });

  it('may ref and unref a closed device without effect', async () => {
    expectEnd(await runProgram('ref_after_close', [], OVERWRITE_FREED), 0, 'closed\n');
  });

  it('may abort a replay while its simulator closes', async () => {
    const stdout = 'rejected with enough\nclosed\n';
    expectEnd(await runProgram('abort_while_closing', [], OVERWRITE_FREED), 0, stdout);
  });

  it.runIf(isRefusedMemory())(
    'that requests more memory than there is receives an error',
    async () => {
      expectEnd(await runProgram('load_without_memory'), 0, 'rejected with 0xc000009a\nclosed\n');
    },
  );

  it('is not kept alive by watching the bandwidth of a device that is unref’d', async () => {
    expectEnd(await runProgram('unref_watching'), 0, 'unref’d\n');
  });

  it('that aborts while a connection is held ends at once', async () => {
    expect(await runProgram('abort_with_held')).toMatchObject({ signal: 'SIGABRT', stdout: '' });
  });

  it('that handles its own failure closes the device, and the fail policy decides on held packets', async () => {
    const stdout = 'the application failed\npermitted\n';
    expectEnd(await runProgram('uncaught_beside_device'), 0, stdout);
  });

  it('may fork, and both processes continue with separate devices', async () => {
    expectEnd(await runProgram('fork_beside_device'), 0, 'child 0, here blocked\n');
  });

  it('that stops reading for half a minute receives the exact number of losses, and nothing stays held', async () => {
    expectEnd(
      await runProgram('stops_reading'),
      0,
      'reported and lost 6200, of 6200: blocked pending-timeout permitted\n' +
        'reported after the pause true, lost true, lost but not counted 0\n' +
        'held 0\n',
    );
  });

  it('whose loop fails at a verdict continues with the next event, and the fail policy decides on the undecided one', async () => {
    expectEnd(
      await runProgram('throw_and_go_on'),
      0,
      'the application failed\n1 2 3 4\npermitted blocked permitted permitted\n',
    );
  });

  it('may have many working devices', async () => {
    expectEnd(await runProgram('many_devices'), 0, 'permitted '.repeat(8).trim() + '\n');
  });

  it('may load the package both as ESM and as CommonJS', async () => {
    expectEnd(await runProgram('both_module_systems'), 0, 'true true\n');
  });
});

/** Runs alone, because it takes longest. */
describe('a process that opens and closes thousands of devices', { timeout }, () => {
  it('keeps no handle and no memory of closed devices', async () => {
    const result = await runProgram('open_close_cycles', ['--expose-gc']);
    const memory = 'ASAN_OPTIONS' in process.env ? 'not judged under AddressSanitizer' : 'flat';
    expectEnd(result, 0, `handles 0\nmemory is ${memory}\n`);
  });
});

describe.concurrent('worker threads', { timeout }, () => {
  it('may open, use and close devices', async () => {
    expectEnd(await runProgram('workers_use'), 0, 'permitted permitted permitted\n');
  });

  it('may be terminated in the middle of a read', async () => {
    expectEnd(await runProgram('workers_terminate'), 0, 'terminated 1 1 1\n');
  });

  it('may be terminated while they open and close devices', async () => {
    expectEnd(await runProgram('workers_terminate_opening'), 0, 'all terminated\n');
  });

  it('may exit in the middle of a read', async () => {
    expectEnd(await runProgram('worker_exits'), 0, 'exited 5\n');
  });
});

describe.concurrent('the garbage collector', { timeout }, () => {
  it('closes a forgotten device, with a warning', async () => {
    const result = await runProgram('collect_forgotten', ['--expose-gc']);
    const stdout = 'warned\nits threads have ended\n';
    expect(result).toMatchObject({ code: 0, signal: null, stdout });
  });

  it('ends a simulator whose device is closed, and one whose second client is forgotten, with one warning', async () => {
    const result = await runProgram('collect_computer', ['--expose-gc']);
    const stdout = ['its threads have ended', '0 warnings', 'its threads have ended', '1 warnings'];
    expect(result).toMatchObject({ code: 0, signal: null, stdout: `${stdout.join('\n')}\n` });
  });

  it('ends a forgotten simulator also while flows, loads and replays wait in it', async () => {
    const result = await runProgram('collect_stuck', ['--expose-gc']);
    const names = ['flow', 'read', 'sent', 'packet', 'load', 'replay', 'wire', 'outcome'];
    const stdout = `${names.map((name) => `${name}: collected\n`).join('')}blocked\n`;
    expect(result).toMatchObject({ code: 0, signal: null, stdout });
  });

  it('keeps a simulator while an outcome or a load is awaited, and closes it then', async () => {
    const result = await runProgram('collect_awaiting', ['--expose-gc']);
    const stdout = 'outcome permitted\nload permitted 3\nwarned twice\n';
    expect(result).toMatchObject({ code: 0, signal: null, stdout });
  });

  it('keeps a device that a loop waits for', async () => {
    const result = await runProgram('collect_waiting', ['--expose-gc']);
    expectEnd(result, 0, 'decided 50\n');
  });

  it('keeps a device while an answer is awaited', async () => {
    const result = await runProgram('collect_asking', ['--expose-gc']);
    expectEnd(result, 0, 'answered\n');
  });
});
