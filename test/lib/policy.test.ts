import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../lib/base/errors.js';
import { parseInfo } from '../../lib/codec/decoder.js';
import type { ConnectionEvent } from '../../lib/codec/events.js';
import { Verdict } from '../../lib/codec/verdicts.js';
import { Policy, type PolicySubject } from '../../lib/policy/policy.js';
import { connection } from './support/records.js';

const SUBJECT: PolicySubject = {
  direction: 'outbound',
  protocol: 6,
  processId: 42,
  localAddress: '192.0.2.10',
  localPort: 49_152,
  remoteAddress: '198.51.100.1',
  remotePort: 443,
};

/** Whether a rule with these conditions matches the subject. */
function matches(conditions: object, subject: Partial<PolicySubject> = {}): boolean {
  const policy = Policy.parse({
    rules: [{ ...conditions, verdict: 'block' }],
    default: 'accept',
  });
  return policy.decide({ ...SUBJECT, ...subject }) === Verdict.Block;
}

describe('a rule', () => {
  it.each<[object, Partial<PolicySubject>, boolean]>([
    [{}, {}, true],
    [{ direction: 'outbound' }, {}, true],
    [{ direction: 'inbound' }, {}, false],
    [{ protocol: 'tcp' }, {}, true],
    [{ protocol: 'UDP' }, {}, false],
    [{ protocol: ['udp', 6] }, {}, true],
    [{ protocol: 'icmpv6' }, { protocol: 58 }, true],
    [{ processId: 42 }, {}, true],
    [{ processId: [4, 8] }, {}, false],
    [{ remote: { port: 443 } }, {}, true],
    [{ remote: { port: '443' } }, {}, true],
    [{ remote: { port: '442-443' } }, {}, true],
    [{ remote: { port: '444-500' } }, {}, false],
    [{ remote: { port: [80, '400-450'] } }, {}, true],
    [{ local: { port: 443 } }, {}, false],
    [{ local: { port: 0 } }, { localPort: 0 }, true],
    [{ remote: { address: '198.51.100.0/24' } }, {}, true],
    [{ remote: { address: '198.51.100.2' } }, {}, false],
    [{ remote: { address: ['10.0.0.0/8', '198.51.100.1'] } }, {}, true],
    [{ local: { address: '192.0.2.0/24' } }, {}, true],
    [{ local: { address: '198.51.100.0/24' } }, {}, false],
    [{ remote: { address: '::/0' } }, {}, false],
    [{ remote: { address: '2001:db8::/32' } }, { remoteAddress: '2001:db8::5' }, true],
    [{ remote: { address: '0.0.0.0/0' } }, { remoteAddress: '2001:db8::5' }, false],
    [{ direction: 'outbound', remote: { port: 80 } }, {}, false],
  ])('%j for %j: %s', (conditions, subject, expected) => {
    expect(matches(conditions, subject)).toBe(expected);
  });
});

describe('a policy', () => {
  const policy = Policy.parse(`{
    "rules": [
      { "name": "no telnet", "remote": { "port": 23 }, "verdict": "permanent-block" },
      { "protocol": "tcp", "verdict": "permanent-accept" },
      { "protocol": "udp", "remote": { "port": 53 }, "verdict": "redirect-nameserver" }
    ],
    "default": "drop"
  }`);

  it('may start with a byte order mark', () => {
    expect(Policy.parse('\uFEFF{ "default": "drop" }').defaultVerdict).toBe(Verdict.Drop);
  });

  it('decides by the first rule that matches', () => {
    expect(policy.decide({ ...SUBJECT, remotePort: 23 })).toBe(Verdict.PermanentBlock);
    expect(policy.decide(SUBJECT)).toBe(Verdict.PermanentAccept);
    expect(policy.decide({ ...SUBJECT, protocol: 17, remotePort: 53 })).toBe(
      Verdict.RedirectNameServer,
    );
  });

  it('decides by its default if no rule matches', () => {
    expect(policy.decide({ ...SUBJECT, protocol: 1 })).toBe(Verdict.Drop);
    expect(policy.defaultVerdict).toBe(Verdict.Drop);
  });

  it('reports the rule that decides', () => {
    expect(policy.ruleCount).toBe(3);
    expect(policy.match({ ...SUBJECT, remotePort: 23 })).toEqual({ index: 0, name: 'no telnet' });
    expect(policy.match(SUBJECT)).toEqual({ index: 1 });
    expect(policy.match({ ...SUBJECT, protocol: 1 })).toBeUndefined();
  });

  it('decides on events and on plain objects', () => {
    const event = parseInfo(connection({ remoteAddress: '10.1.2.3' }))[0] as ConnectionEvent;
    const local = Policy.parse({
      rules: [{ remote: { address: '10.0.0.0/8' }, verdict: 'accept' }],
      default: 'block',
    });
    expect(local.decide(event)).toBe(Verdict.Accept);
  });

  it.each([
    ['accept', Verdict.Accept],
    ['permanent-accept', Verdict.PermanentAccept],
    ['block', Verdict.Block],
    ['permanent-block', Verdict.PermanentBlock],
    ['drop', Verdict.Drop],
    ['permanent-drop', Verdict.PermanentDrop],
    ['redirect-nameserver', Verdict.RedirectNameServer],
    ['redirect-tunnel', Verdict.RedirectTunnel],
    ['redirect-split-tunnel', Verdict.RedirectSplitTunnel],
  ])('knows the verdict %s', (name, verdict) => {
    expect(Policy.parse({ default: name }).decide(SUBJECT)).toBe(verdict);
  });
});

describe('an invalid policy', () => {
  const rule = { name: 'web', verdict: 'block' };

  it.each<[string, unknown, string]>([
    ['is not JSON', '{', 'The policy is not JSON: '],
    ['is not an object', '[]', 'The policy is not valid: '],
    ['has no default', { rules: [] }, 'default: missing; write one of accept, '],
    [
      'has an unknown default',
      { default: 'allow' },
      'default: "allow" is not a verdict; write one of',
    ],
    ['has an unknown field', { default: 'drop', rule: [] }, 'rule'],
    ['has a rule without verdict', { default: 'drop', rules: [{}] }, 'rules[0].verdict: missing'],
    [
      'has an unknown field in a named rule',
      { default: 'drop', rules: [rule, { ...rule, ports: 1 }] },
      'rules[1] ("web").ports: is not known',
    ],
    [
      'has a port out of range',
      { default: 'drop', rules: [{ ...rule, remote: { port: 70_000 } }] },
      'rules[0] ("web").remote.port: 70000 is neither a port from 0 to 65535 nor a range',
    ],
    [
      'has a reversed range',
      { default: 'drop', rules: [{ ...rule, local: { port: '20-10' } }] },
      'rules[0] ("web").local.port: "20-10" is neither',
    ],
    [
      'has an invalid address',
      { default: 'drop', rules: [{ ...rule, remote: { address: ['10.0.0.0/8', '10.0.0'] } }] },
      'rules[0] ("web").remote.address[1]: \'10.0.0\' is not an IP address',
    ],
    [
      'has a prefix that is too long',
      { default: 'drop', rules: [{ ...rule, remote: { address: '10.0.0.0/40' } }] },
      'no prefix length from 0 to 32',
    ],
    [
      'has an unknown protocol',
      { default: 'drop', rules: [{ ...rule, protocol: 'tpc' }] },
      'rules[0] ("web").protocol: "tpc" is not a protocol',
    ],
    [
      'has a protocol that is too large',
      { default: 'drop', rules: [{ ...rule, protocol: 256 }] },
      '256 is not a protocol',
    ],
    [
      'has an unknown direction',
      { default: 'drop', rules: [{ ...rule, direction: 'up' }] },
      'rules[0] ("web").direction: ',
    ],
    [
      'has an empty list',
      { default: 'drop', rules: [{ ...rule, protocol: [] }] },
      'rules[0] ("web").protocol: must not be an empty list',
    ],
    [
      'has an invalid process id',
      { default: 'drop', rules: [{ ...rule, processId: -1 }] },
      'rules[0] ("web").processId: ',
    ],
    ['has a rule that is not an object', { default: 'drop', rules: [7] }, 'rules[0]: '],
  ])('that %s is refused, and the error names the place', (_, json, message) => {
    expect(() => Policy.parse(json)).toThrow(InvalidArgumentError);
    expect(() => Policy.parse(json)).toThrow(message);
  });
});

describe('a policy as JSON text', () => {
  it.each([
    ['{ "default": "drop", "default": "accept" }', 'default is written twice'],
    ['{ "rules": [], "default": "drop", "rul\\u0065s": [] }', 'rules is written twice'],
    [
      '{ "rules": [{ "verdict": "drop" }, { "verdict": "drop", "local": { "port": [1, 2], "port": 3 } }], "default": "drop" }',
      'rules[1].local.port is written twice',
    ],
    ['{ "__proto__": 1, "__proto__": 2, "default": "drop" }', '__proto__ is written twice'],
  ])('refuses a key that stands twice: %s', (text, message) => {
    expect(() => Policy.parse(text)).toThrow(InvalidArgumentError);
    expect(() => Policy.parse(text)).toThrow(message);
  });

  it('takes the same key in different objects, and text that looks like a key', () => {
    const policy = Policy.parse(`{
      "rules": [
        { "name": "a\\"name\\":", "verdict": "drop" },
        { "name": "name", "local": { "port": 1 }, "remote": { "port": 1 }, "verdict" : "block" }
      ],
      "default": "drop"
    }`);
    expect(policy.ruleCount).toBe(2);
  });

  it('refuses the key __proto__', () => {
    expect(() => Policy.parse('{ "__proto__": {}, "default": "drop" }')).toThrow(/__proto__/);
  });
});

describe('the error of an invalid policy', () => {
  const rules = (count: number, rule: object): object => ({
    rules: Array.from({ length: count }, () => rule),
    default: 'drop',
  });

  it('lists ten problems, and says that there are more', () => {
    const message = messageOf(() => Policy.parse(rules(10, {})));
    expect(message.match(/missing/g)).toHaveLength(10);
    expect(message).not.toContain('more');
    const longer = messageOf(() => Policy.parse(rules(100_000, {})));
    expect(longer.match(/missing/g)).toHaveLength(10);
    expect(longer).toMatch(/; and more\.$/);
  });

  it.each([
    ['a name', { name: 'x'.repeat(1_000_000) }],
    ['a key', { ['x'.repeat(1_000_000)]: 1, verdict: 'drop' }],
    ['a verdict', { verdict: 'x'.repeat(1_000_000) }],
    ['a port', { remote: { port: 'x'.repeat(1_000_000) }, verdict: 'drop' }],
    ['an address', { remote: { address: 'x'.repeat(1_000_000) }, verdict: 'drop' }],
    ['a prefix', { remote: { address: `::/${'9'.repeat(1_000_000)}` }, verdict: 'drop' }],
    ['a protocol', { protocol: 'x'.repeat(1_000_000), verdict: 'drop' }],
    ['a direction', { direction: 'x'.repeat(1_000_000), verdict: 'drop' }],
  ])('cuts %s after 200 characters', (_, rule) => {
    expect(messageOf(() => Policy.parse(rules(1, rule))).length).toBeLessThan(700);
  });

  it('has no control characters of the policy', () => {
    const message = messageOf(() => Policy.parse(rules(1, { name: '\x1b]0;\u202e\u009b\x07' })));
    expect(message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    const broken = messageOf(() => Policy.parse('{"a": \x1b[31m\u009b'));
    expect(broken).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

function messageOf(parse: () => unknown): string {
  try {
    parse();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}
