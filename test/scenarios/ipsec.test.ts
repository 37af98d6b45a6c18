/** Inbound traffic that IPsec protects: the packet layers see AH or ESP, and ALE what they protect. */

import { describe, expect, test } from 'vitest';
import { Verdict, type ConnectionEvent, type Outcome } from '../../lib/index.js';
import { ipPacket, securedPacket, type PacketSpec } from '../support/packets.js';
import { Simulated, Wire } from './simulated.js';

const SYN = 0x02;
const PROTOCOLS = { AH: 51, ESP: 50 } as const;

const families = [
  { family: 'IPv4', ipVersion: 4, computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', ipVersion: 6, computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;

const cases = families.flatMap((addresses) =>
  (['AH', 'ESP'] as const).flatMap((header) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ ...addresses, header, protocol })),
  ),
);

describe.each(cases)('$protocol with $header over $family', (place) => {
  const { ipVersion, computer, stranger, header, protocol } = place;
  const packet: PacketSpec = {
    source: stranger,
    destination: computer,
    protocol,
    sourcePort: 40_000,
    destinationPort: 8080,
    ...(protocol === 'tcp'
      ? { tcp: { flags: SYN, sequence: 1000, acknowledgment: 0 } }
      : { payload: new Uint8Array(3) }),
  };

  /** A computer with IPsec, and a program that waits at the port. */
  async function start(): Promise<Simulated> {
    const simulated = await Simulated.start();
    simulated.network.acceptSecured();
    simulated.network.listen({ processId: 7, protocol, local: { port: 8080 }, ipVersion });
    return simulated;
  }

  /** The first packet, and one more of its connection. A SYN is sent again. */
  function arrive(simulated: Simulated): Promise<Outcome> {
    return simulated.network.arrive(securedPacket(ipPacket(packet), header));
  }

  async function decide(
    verdict: Verdict,
  ): Promise<{ simulated: Simulated; question: ConnectionEvent; outcome: Outcome }> {
    const simulated = await start();
    const outcome = arrive(simulated);
    const question = await simulated.question();
    simulated.device.setVerdict(question.id, verdict);
    return { simulated, question, outcome: await outcome };
  }

  test('is asked about once, with its process, as what is protected', async () => {
    const { simulated, question, outcome } = await decide(Verdict.PermanentAccept);
    expect(question).toMatchObject({
      direction: 'inbound',
      protocol: protocol === 'tcp' ? 6 : 17,
      processId: 7,
      localAddress: computer,
      localPort: 8080,
      remoteAddress: stranger,
      remotePort: 40_000,
    });
    expect(outcome).toBe('permitted');
    expect(await arrive(simulated)).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
    expect(await simulated.device.connections()).toHaveLength(1);
  });

  test('is injected once, and then comes with its security header', async () => {
    const { simulated } = await decide(Verdict.PermanentAccept);
    const wire = new Wire(simulated.network);
    expect(await arrive(simulated)).toBe('permitted');
    await wire.passes('inbound', (bytes) => bytes[ipVersion === 4 ? 9 : 6] === PROTOCOLS[header]);
    expect(simulated.network.counters().inbound.injected).toBe(1);
  });

  test.each([
    ['PermanentBlock', Verdict.PermanentBlock],
    ['PermanentDrop', Verdict.PermanentDrop],
  ] as const)('stays refused with %s, without another question', async (_name, verdict) => {
    const { simulated, outcome } = await decide(verdict);
    expect(outcome).not.toBe('permitted');
    expect(await arrive(simulated)).not.toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
    expect(await simulated.counted('packetsInjected')).toBe(0n);
  });

  /** ALE authorizes the flow of a datagram once, and the packet layers cannot see what ESP encrypts. */
  const acceptLasts = header === 'ESP' && protocol === 'udp';
  /** The packet after an accepted SYN is the computer's own answer, which nothing protects here. */
  const acceptIsForOne = header === 'AH' && protocol === 'udp';

  test.each([
    ...(acceptIsForOne ? ([['Accept', Verdict.Accept]] as const) : []),
    ['Block', Verdict.Block],
    ['Drop', Verdict.Drop],
  ] as const)('is asked about again after %s', async (_name, verdict) => {
    const { simulated, outcome } = await decide(verdict);
    expect(outcome === 'permitted').toBe(verdict === Verdict.Accept);
    const next = arrive(simulated);
    const question = await simulated.question();
    expect(question).toMatchObject({ processId: 7, remoteAddress: stranger, remotePort: 40_000 });
    simulated.device.setVerdict(question.id, Verdict.PermanentAccept);
    expect(await next).toBe('permitted');
  });

  if (acceptLasts) {
    test('passes without another question after Accept', async () => {
      const { simulated, outcome } = await decide(Verdict.Accept);
      expect(outcome).toBe('permitted');
      expect(await arrive(simulated)).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    });
  }

  test('is refused once its live connection is blocked', async () => {
    const { simulated, question } = await decide(Verdict.PermanentAccept);
    expect(simulated.device.updateVerdict(question, Verdict.PermanentBlock)).toBe(true);
    simulated.network.reauthorize();
    expect(await arrive(simulated)).not.toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });
});
