/** What the program and the remote end see of a permanent verdict, by protocol, direction and age of the connection. */

import { expect, test } from 'vitest';
import { Verdict } from '../../lib/index.js';
import { Simulated } from './simulated.js';

const verdicts = {
  accept: Verdict.PermanentAccept,
  block: Verdict.PermanentBlock,
  drop: Verdict.PermanentDrop,
} as const;
type Name = keyof typeof verdicts;

const local = { address: '192.0.2.10', port: 5000 };
const remote = { address: '198.51.100.7', port: 6000 };
const bytes = new TextEncoder().encode('hello');

async function begin(protocol: 'tcp' | 'udp' | 'icmp', direction: 'outbound' | 'inbound') {
  const simulated = await Simulated.start();
  const ends =
    protocol === 'icmp'
      ? { local: { address: local.address }, remote: { address: remote.address } }
      : { local, remote };
  const spec = { processId: 7, protocol, ...ends };
  const { network } = simulated;
  const flow = direction === 'outbound' ? network.connect(spec) : network.accept(spec);
  return { simulated, flow, question: await simulated.question() };
}

/** The packets that have left for the remote end. */
function sent({ network }: Simulated): number {
  const { permitted, injected } = network.counters().outbound;
  return permitted + injected;
}

// The outcome is the program's: permitted, an error (blocked), or silence (dropped).
test.each([
  ['tcp', 'outbound', 'accept', 'permitted', true],
  ['tcp', 'outbound', 'block', 'blocked', false],
  ['tcp', 'outbound', 'drop', 'dropped', false],
  ['tcp', 'inbound', 'accept', 'permitted', true],
  ['tcp', 'inbound', 'block', 'dropped', false],
  ['tcp', 'inbound', 'drop', 'dropped', false],
  ['udp', 'outbound', 'accept', 'permitted', true],
  ['udp', 'outbound', 'block', 'blocked', false],
  ['udp', 'outbound', 'drop', 'dropped', false],
  ['udp', 'inbound', 'accept', 'permitted', false],
  ['udp', 'inbound', 'block', 'dropped', false],
  ['udp', 'inbound', 'drop', 'dropped', false],
  ['icmp', 'outbound', 'accept', 'permitted', true],
  ['icmp', 'outbound', 'block', 'blocked', false],
  ['icmp', 'outbound', 'drop', 'dropped', false],
  ['icmp', 'inbound', 'accept', 'permitted', false],
  ['icmp', 'inbound', 'block', 'dropped', false],
  ['icmp', 'inbound', 'drop', 'dropped', false],
] as const)(
  'a new %s connection that is %s gets %s: its program sees %s',
  async (protocol, direction, verdict: Name, outcome, leaves) => {
    const { simulated, flow, question } = await begin(protocol, direction);
    simulated.device.setVerdict(question.id, verdicts[verdict]);
    expect(await flow.outcome).toBe(outcome);
    expect(sent(simulated) > 0).toBe(leaves);
  },
);

// A reset leaves for the remote end at once, and nothing after it.
test.each([
  ['tcp', 'outbound', 'accept', 'permitted', false],
  ['tcp', 'outbound', 'block', 'blocked', true],
  ['tcp', 'outbound', 'drop', 'dropped', false],
  ['tcp', 'inbound', 'accept', 'permitted', false],
  ['tcp', 'inbound', 'block', 'blocked', true],
  ['tcp', 'inbound', 'drop', 'dropped', false],
  ['udp', 'outbound', 'accept', 'permitted', false],
  ['udp', 'outbound', 'block', 'blocked', false],
  ['udp', 'outbound', 'drop', 'dropped', false],
  ['udp', 'inbound', 'accept', 'permitted', false],
  ['udp', 'inbound', 'block', 'blocked', false],
  ['udp', 'inbound', 'drop', 'dropped', false],
  ['icmp', 'outbound', 'accept', 'permitted', false],
  ['icmp', 'outbound', 'block', 'blocked', false],
  ['icmp', 'outbound', 'drop', 'dropped', false],
  ['icmp', 'inbound', 'accept', 'permitted', false],
  ['icmp', 'inbound', 'block', 'blocked', false],
  ['icmp', 'inbound', 'drop', 'dropped', false],
] as const)(
  'a live %s connection that is %s gets %s: its program sees %s',
  async (protocol, direction, verdict: Name, outcome, resets) => {
    const { simulated, flow, question } = await begin(protocol, direction);
    question.accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
    expect(await flow.send(bytes)).toBe('permitted'); // so the handshake is over

    const before = sent(simulated);
    expect(simulated.device.updateVerdict(question, verdicts[verdict])).toBe(true);
    await expect.poll(() => sent(simulated) > before).toBe(resets);

    const reset = sent(simulated);
    expect(await flow.send(bytes)).toBe(outcome);
    expect(sent(simulated) > reset).toBe(verdict === 'accept');
    const { permitted } = simulated.network.counters().inbound;
    await flow.receive(bytes);
    expect(simulated.network.counters().inbound.permitted > permitted).toBe(verdict === 'accept');
  },
);
