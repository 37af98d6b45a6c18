/** The same addresses and ports on two links, or in two compartments: conversations of their own. */

import { describe, expect, test } from 'vitest';
import { Verdict, type Flow, type FlowProtocol, type Link } from '../../lib/index.js';
import { Simulated } from './simulated.js';

interface Place {
  readonly where: string;
  readonly links: readonly [Link, Link];
  readonly computer: string;
  readonly other: string;
}

const places: readonly Place[] = [
  { where: 'two links over IPv4', links: [0, 1], computer: '169.254.0.1', other: '169.254.0.2' },
  { where: 'two links over IPv6', links: [0, 1], computer: 'fe80::10', other: 'fe80::1' },
  {
    where: 'two compartments over IPv4',
    links: [0, 2],
    computer: '192.0.2.10',
    other: '198.51.100.7',
  },
  {
    where: 'two compartments over IPv6',
    links: [0, 2],
    computer: '2001:db8::10',
    other: '2001:db8:ffff::7',
  },
];

/** Two processes with the same conversation. The ids say who is who. */
async function connectBoth(
  simulated: Simulated,
  { links, computer, other }: Place,
  protocol: FlowProtocol,
  verdicts: readonly [Verdict, Verdict],
): Promise<readonly [Flow, Flow]> {
  const connect = (index: 0 | 1): Flow =>
    simulated.network.connect({
      processId: index + 1,
      protocol,
      link: links[index],
      local: { address: computer, port: 50_000 },
      remote: { address: other, port: 443 },
    });
  const flows = [connect(0), connect(1)] as const;
  for (const question of await simulated.questions(2)) {
    simulated.device.setVerdict(question.id, verdicts[question.processId - 1]!);
  }
  return flows;
}

describe.each(places)('on $where', (place) => {
  const accepted = [Verdict.PermanentAccept, Verdict.PermanentAccept] as const;

  test.each(['tcp', 'udp', 'icmp'] as const)(
    'the same %s conversation is asked about twice, and each has its verdict',
    async (protocol) => {
      const simulated = await Simulated.start();
      const [first, second] = await connectBoth(simulated, place, protocol, [
        Verdict.PermanentAccept,
        Verdict.PermanentBlock,
      ]);
      expect(await first.outcome).toBe('permitted');
      expect(await second.outcome).not.toBe('permitted');
      expect(await first.send(new Uint8Array(3))).toBe('permitted');
      expect(await first.receive(new Uint8Array(3))).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    },
  );

  test.each(['tcp', 'udp'] as const)(
    'the end of one %s conversation is its own',
    async (protocol) => {
      const simulated = await Simulated.start();
      const [first, second] = await connectBoth(simulated, place, protocol, accepted);
      await Promise.all([first.outcome, second.outcome]);
      second.close();
      expect((await simulated.next('connection-end')).processId).toBe(2);
      expect(await first.send(new Uint8Array(3))).toBe('permitted');
      expect(await simulated.untaken('connection-end')).toEqual([]);
      expect(await simulated.untaken('connection')).toEqual([]);
      first.close();
      expect((await simulated.next('connection-end')).processId).toBe(1);
    },
  );

  test.each(['tcp', 'udp', 'icmp'] as const)(
    'an update changes every %s conversation that it names',
    async (protocol) => {
      const simulated = await Simulated.start();
      const flows = await connectBoth(simulated, place, protocol, accepted);
      await Promise.all(flows.map((flow) => flow.outcome));
      const identity = {
        protocol: { tcp: 6, udp: 17, icmp: place.computer.includes(':') ? 58 : 1 }[protocol],
        localAddress: place.computer,
        localPort: protocol === 'icmp' ? 0 : 50_000,
        remoteAddress: place.other,
        remotePort: protocol === 'icmp' ? 0 : 443,
      };
      expect(simulated.device.updateVerdict(identity, Verdict.PermanentDrop)).toBe(true);
      for (const flow of flows) expect(await flow.send(new Uint8Array(3))).not.toBe('permitted');
    },
  );

  test.each(['tcp', 'udp'] as const)(
    'each %s conversation has its own totals',
    async (protocol) => {
      const simulated = await Simulated.start();
      const [first, second] = await connectBoth(simulated, place, protocol, accepted);
      await Promise.all([first.outcome, second.outcome]);
      await first.send(new Uint8Array(10));
      await second.send(new Uint8Array(20));
      await second.receive(new Uint8Array(7));
      const totals = (await simulated.device.connections())
        .map(({ processId, transmitted, received }) => [processId, transmitted, received])
        .sort(([a], [b]) => Number(a) - Number(b));
      expect(totals).toEqual([
        [1, 10n, 0n],
        [2, 20n, 7n],
      ]);
    },
  );
});
