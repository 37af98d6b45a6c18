/** Access to a device inside a process: no other process has any. */

import { describe, expect, it } from 'vitest';
import { runProgram } from './run_program.js';

describe('an embedded device', () => {
  it('opens no socket, pipe, file or shared memory that gives another process access', async () => {
    expect(await runProgram('lets_nobody_in')).toEqual({
      code: 0,
      signal: null,
      stdout: 'no way in\n',
      stderr: '',
    });
  });
});
