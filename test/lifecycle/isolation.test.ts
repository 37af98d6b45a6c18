/** Who can get at a device that lives in its process: nobody else. */

import { describe, expect, it } from 'vitest';
import { runProgram } from './run_program.js';

describe('an embedded device', () => {
  it('opens no socket, pipe, file or shared memory that another process could come in by', async () => {
    expect(await runProgram('lets_nobody_in')).toEqual({
      code: 0,
      signal: null,
      stdout: 'no way in\n',
      stderr: '',
    });
  });
});
