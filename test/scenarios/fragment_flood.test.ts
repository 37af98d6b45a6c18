/** A flood of lone fragments: another process's connections are asked about and decided as ever. */

import { describe, expect, test } from 'vitest';
import { Verdict, type Outcome } from '../../lib/index.js';
import { fragmentsOf, ipPacket } from '../support/packets.js';
import { Simulated } from './simulated.js';

interface Ends {
  readonly source: string;
  readonly destination: string;
}

/** The fragments of a datagram, of which the first one has the ports. */
function datagram({ source, destination }: Ends, identification: number): Uint8Array[] {
  const whole = ipPacket({
    source,
    destination,
    protocol: 'udp',
    sourcePort: 50_000,
    destinationPort: 4500,
    payload: new Uint8Array(64),
  });
  return fragmentsOf(whole, 24, identification);
}

const cases = [
  {
    failPolicy: 'open',
    family: 'IPv4',
    computer: '192.0.2.10',
    peer: '198.51.100.7',
    stranger: '203.0.113.9',
  },
  {
    failPolicy: 'closed',
    family: 'IPv6',
    computer: '2001:db8::10',
    peer: '2001:db8:ffff::7',
    stranger: '2001:db8:eeee::9',
  },
] as const;

describe.each(cases)(
  'a flood of fragments over $family, failing $failPolicy,',
  ({ failPolicy, computer, peer, stranger }) => {
    test.each([
      ['64', 64],
      ['16384', 16_384],
    ])('of %s each second is dropped, and disturbs no other connection', async (_name, count) => {
      const simulated = await Simulated.start({ logLevel: 'error', failPolicy });
      const { network, device, clock } = simulated;
      const flood: Promise<Outcome>[] = [];
      function aSecondOfFlood(): void {
        for (let i = 0; i < count; i++) {
          const [, lone] = datagram({ source: stranger, destination: computer }, flood.length);
          flood.push(network.packet(lone!, 'inbound'));
        }
        clock.advance(1000);
      }

      aSecondOfFlood();
      const [first, ...later] = datagram({ source: computer, destination: peer }, 7);
      const pieces = [...later, first!].map((piece) => network.packet(piece, 'outbound'));
      const tcp = network.connect({
        processId: 4242,
        protocol: 'tcp',
        remote: { address: peer, port: 443 },
      });
      aSecondOfFlood();
      const questions = await simulated.questions(2);
      expect(questions.map(({ protocol }) => protocol)).toEqual([17, 6]);
      aSecondOfFlood();
      device.setVerdicts(questions.map(({ id }) => [id, Verdict.PermanentAccept]));
      expect(await Promise.all(pieces)).toEqual(['permitted', 'permitted', 'permitted']);
      expect(await tcp.outcome).toBe('permitted');

      clock.advance(2100);
      expect(new Set(await Promise.all(flood))).toEqual(new Set(['dropped']));
      const reasons = (await simulated.untaken('lost')).map(({ reason }) => reason);
      expect(new Set(reasons)).toEqual(new Set(count > 64 ? ['fragment-limit'] : []));
    });
  },
);
