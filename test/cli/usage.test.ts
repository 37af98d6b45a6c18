import { describe, expect, it } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { bundledCapture, runCli } from './run_cli.js';

describe('netverdict', () => {
  it('prints its version', async () => {
    expect(await runCli('--version')).toEqual({
      code: 0,
      stdout: `${manifest.version}\n`,
      stderr: '',
    });
  });

  it.each(['', 'replay', 'decode'])('prints help on %s --help', async (command) => {
    const result = await runCli(...(command === '' ? [] : [command]), '--help');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/^Usage: netverdict/);
  });

  it('describes every option of replay, and the interfaces that it writes', async () => {
    const { stdout } = await runCli('replay', '--help');
    for (const option of ['--local', '--policy', '--speed', '--fast', '--write-out', '--json']) {
      expect(stdout).toContain(option);
    }
    expect(stdout).toMatch(/network\s.*loopback\s.*delivered\s/s);
  });

  const misuse: [string, string[], RegExp][] = [
    ['no command', [], /Usage: netverdict/],
    ['an unknown command', ['repaly', 'x.pcap'], /unknown command 'repaly'/],
    ['an unknown option', ['replay', 'x.pcap', '--fsat'], /unknown option '--fsat'/],
    ['a missing file argument', ['replay'], /missing required argument 'file'/],
    ['two files', ['decode', 'a', 'b'], /too many arguments/],
    ['a local network that is none', ['replay', 'x', '--local', '10.0.0.0/99'], /10\.0\.0\.0\/99/],
    ['a local host name', ['replay', 'x', '--local', 'localhost'], /localhost/],
    ['an empty local network', ['replay', 'x', '--local', ''], /--local/],
    ['a speed that is no number', ['replay', 'x', '--speed', 'quick'], /--speed.*quick/],
    ['a speed of zero', ['replay', 'x', '--speed', '0'], /--speed.*0/],
    ['a negative speed', ['replay', 'x', '--speed=-1'], /--speed.*-1/],
    ['an infinite speed', ['replay', 'x', '--speed', 'Infinity'], /--speed.*Infinity/],
    [
      'speed and fast',
      ['replay', 'x', '--speed', '2', '--fast'],
      /--fast.*--speed|--speed.*--fast/,
    ],
    ['a capture to write without a name', ['replay', 'x', '--write-out'], /--write-out/],
    ['a payload without JSON', ['replay', 'x', '--payload'], /--payload.*--json/],
    ['a decoded payload without JSON', ['decode', 'x', '--payload'], /--payload.*--json/],
  ];
  it.each(misuse)('exits with 2 and a reason on %s', async (_, args, message) => {
    const result = await runCli(...args);
    expect(result.code).toBe(2);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });

  it.each(['replay', 'decode'])(
    '%s of a missing file exits with 2 and names it',
    async (command) => {
      const result = await runCli(command, 'no-such-file.bin');
      expect(result.code).toBe(2);
      expect(result.stderr).toMatch(/no-such-file\.bin/);
      expect(result.stderr.trim().split('\n')).toHaveLength(1);
    },
  );

  it.each(['replay', 'decode'])('%s of a folder exits with 2 and a reason', async (command) => {
    const result = await runCli(command, 'captures');
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(/captures.*folder/);
  });

  it('a file that is not a capture exits with 2 and a reason', async () => {
    const result = await runCli('replay', 'package.json');
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(/package\.json/);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });

  it('a missing policy file exits with 2 and names it', async () => {
    const result = await runCli('replay', bundledCapture, '--policy', 'no-such-policy.json');
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(/no-such-policy\.json/);
  });
});

describe('what the command line prints of files and arguments', () => {
  const EVIL = 'a\x1b]0;b\u009b31m\u202ec\nnetverdict: all is well';
  const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

  it.each([
    ['the path of a capture', ['replay', EVIL]],
    ['the path of a recording', ['decode', EVIL]],
    ['the path of a policy', ['replay', bundledCapture, '--policy', EVIL]],
    ['a command', [EVIL]],
    ['an option', ['replay', `--${EVIL}`]],
    ['an address', ['replay', 'x', '--local', EVIL]],
    ['a service', ['driver', 'status', '--name', EVIL]],
    ['a start type', ['driver', 'install', '--start-type', EVIL]],
  ])('%s has no control characters and no bidi overrides', async (_, args) => {
    const { stderr } = await runCli(...args);
    expect(stderr).toMatch(/^netverdict: /);
    expect(stderr.replaceAll('\n', '')).not.toMatch(UNPRINTABLE);
    expect(stderr).not.toMatch(/^netverdict: all is well/m);
  });
});
