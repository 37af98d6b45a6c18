import { describe, expect, it } from 'vitest';
import { runCli } from './run_cli.js';

const actions = ['install', 'start', 'stop', 'remove', 'status'];

describe('netverdict driver', () => {
  it('lists the actions on the driver', async () => {
    const result = await runCli('driver', '--help');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    for (const action of actions) expect(result.stdout).toMatch(new RegExp(`^ +${action} `, 'm'));
  });

  it.each(actions)('%s prints help', async (action) => {
    const result = await runCli('driver', action, '--help');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/--name <service>/);
  });

  it.runIf(process.platform !== 'win32').each(actions)(
    '%s exits with 1 where there is no Windows, and says what to do',
    async (action) => {
      const result = await runCli('driver', action);
      expect(result).toMatchObject({ code: 1, stdout: '' });
      expect(result.stderr).toMatch(/^netverdict: .*for Windows.*createSimulator\(\).*\n$/);
    },
  );

  const misuse: [string, string[], RegExp][] = [
    ['no action', [], /Usage: netverdict driver/],
    ['an unknown action', ['strat'], /unknown command 'strat'/],
    [
      'a name with a backslash',
      ['status', '--name', 'a\\b'],
      /name: must be a name of .* letters, digits/,
    ],
    ['a time-out that is no number', ['start', '--timeout', 'long'], /--timeout long/],
    ['a time-out of zero', ['stop', '--timeout', '0'], /--timeout 0/],
    ['an unknown start type', ['install', '--start-type', 'boot'], /--start-type boot/],
  ];
  it.each(misuse)('exits with 2 and a reason on %s', async (_, args, message) => {
    const result = await runCli('driver', ...args);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });
});
