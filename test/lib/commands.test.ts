import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../lib/base/errors.js';
import { encodeCommand, type Command } from '../../lib/codec/commands.js';
import { Verdict } from '../../lib/codec/verdicts.js';

const connection = {
  protocol: 6,
  localAddress: '192.0.2.10',
  localPort: 1,
  remoteAddress: '198.51.100.1',
  remotePort: 2,
};

function update(changes: object, verdict: Verdict = Verdict.Accept): Command {
  return { command: 'update', connection: { ...connection, ...changes }, verdict };
}

describe('encodeCommand', () => {
  it.each([
    ['an id that is not a bigint', { command: 'verdict', id: 1, verdict: 2 }, /1 is not the id/],
    ['the id 0', { command: 'verdict', id: 0n, verdict: 2 }, /0 is not the id/],
    ['an id beyond 64 bits', { command: 'verdict', id: 1n << 64n, verdict: 2 }, /is not the id/],
    ['an unknown verdict', { command: 'verdict', id: 1n, verdict: 12 }, /12 is not a verdict/],
    ['a verdict by name', { command: 'verdict', id: 1n, verdict: 'accept' }, /not a verdict/],
    ['a verdict that decides nothing', { command: 'verdict', id: 1n, verdict: 0 }, /Undecided/],
    ['a port out of range', update({ localPort: 65_536 }), /localPort is 65536/],
    ['a port that is not a whole number', update({ remotePort: 1.5 }), /remotePort is 1.5/],
    ['a protocol out of range', update({ protocol: 256 }), /protocol is 256/],
    ['addresses of two versions', update({ remoteAddress: '::1' }), /not of one IP version/],
    ['no address', update({ localAddress: 'here' }), /'here' is not an IP address/],
    ['an address that is not text', update({ localAddress: 5 }), /'5' is not an IP address/],
    ['no connection', { command: 'update', verdict: 2 }, /undefined is not a connection/],
    ['no command', undefined, /undefined is not a command/],
    ['a name alone', 'shutdown', /'shutdown' is not a command.*\{ command: 'shutdown' \}/],
    ['an unknown command', { command: 'toString' }, /"toString" is not a command/],
  ])('refuses %s', (_, command, message) => {
    expect(() => encodeCommand(command as Command)).toThrow(message);
    expect(() => encodeCommand(command as Command)).toThrow(InvalidArgumentError);
  });

  it('takes the least and the greatest numbers', () => {
    const least = update({ protocol: 0, localPort: 0, remotePort: 0 });
    const greatest = update({ protocol: 255, localPort: 65_535, remotePort: 65_535 });
    expect(() => [least, greatest].map(encodeCommand)).not.toThrow();
  });

  it('lets a live connection become undecided again', () => {
    expect(encodeCommand(update({}, Verdict.Undecided)).at(-1)).toBe(0);
  });
});
