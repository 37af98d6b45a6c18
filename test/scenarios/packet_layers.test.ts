/** The callouts at OUTBOUND_IPPACKET and INBOUND_IPPACKET, by the verdict of the packet's connection. */

import { describe, expect, test } from 'vitest';
import { Verdict, type ConnectionEvent } from '../../lib/index.js';
import { ipPacket } from '../support/packets.js';
import { Simulated } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;
const protocols = ['tcp', 'udp'] as const;

const cases = families.flatMap((addresses) =>
  protocols.map((protocol) => ({ ...addresses, protocol })),
);

describe.each(cases)('$protocol over $family', ({ computer, stranger, protocol }) => {
  const outgoing = (text = 'out'): Uint8Array =>
    ipPacket({
      source: computer,
      destination: stranger,
      protocol,
      sourcePort: 50_000,
      destinationPort: 443,
      payload: new TextEncoder().encode(text),
    });
  const incoming = (text = 'in'): Uint8Array =>
    ipPacket({
      source: stranger,
      destination: computer,
      protocol,
      sourcePort: 443,
      destinationPort: 50_000,
      payload: new TextEncoder().encode(text),
    });

  /** A computer on which the connection already has the verdict. */
  async function decided(verdict: Verdict): Promise<Simulated> {
    const simulated = await Simulated.start({ logLevel: 'error' });
    const outcome = simulated.network.packet(outgoing('first'), 'outbound');
    const question = await simulated.question();
    simulated.device.setVerdict(question.id, verdict);
    await outcome;
    return simulated;
  }

  test('an outbound packet of an unknown connection is held, and the client is asked with the whole packet', async () => {
    const simulated = await Simulated.start();
    const packet = outgoing();
    const outcome = simulated.network.packet(packet, 'outbound');
    const question = await simulated.question();
    expect({
      direction: question.direction,
      processId: question.processId,
      protocolName: question.protocolName,
      localAddress: question.localAddress,
      localPort: question.localPort,
      remoteAddress: question.remoteAddress,
      remotePort: question.remotePort,
      payloadLayer: question.payloadLayer,
      payload: question.payload,
    }).toEqual({
      direction: 'outbound',
      processId: 0,
      protocolName: protocol,
      localAddress: computer,
      localPort: 50_000,
      remoteAddress: stranger,
      remotePort: 443,
      payloadLayer: 3,
      payload: packet,
    });
    expect(simulated.network.counters().outbound.permitted).toBe(0);
    question.accept();
    expect(await outcome).toBe('permitted');
  });

  test('an inbound packet of an unknown connection passes to ALE without a question', async () => {
    const simulated = await Simulated.start();
    expect(await simulated.network.packet(incoming(), 'inbound')).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test.each([
    ['Accept', 'permitted', Verdict.Accept],
    ['PermanentAccept', 'permitted', Verdict.PermanentAccept],
    ['Block', 'dropped', Verdict.Block],
    ['PermanentBlock', 'dropped', Verdict.PermanentBlock],
    ['Drop', 'dropped', Verdict.Drop],
    ['PermanentDrop', 'dropped', Verdict.PermanentDrop],
    ['Undeterminable', 'dropped', Verdict.Undeterminable],
    ['Failed', 'dropped', Verdict.Failed],
  ] as const)('a held packet with the verdict %s is %s', async (_name, expected, verdict) => {
    const simulated = await Simulated.start();
    const outcome = simulated.network.packet(outgoing(), 'outbound');
    const question = await simulated.question();
    simulated.device.setVerdict(question.id, verdict);
    expect(await outcome).toBe(expected);
  });

  describe.each([
    ['outbound', outgoing],
    ['inbound', incoming],
  ] as const)('%s packets of a connection with', (direction, packet) => {
    test('no verdict yet: each packet is held', async () => {
      const simulated = await Simulated.start();
      const first = simulated.network.packet(outgoing('first'), 'outbound');
      const firstQuestion = await simulated.question();
      const second = simulated.network.packet(packet('second'), direction);
      const secondQuestion = await simulated.question();
      expect(secondQuestion.id).not.toBe(firstQuestion.id);
      expect(secondQuestion.direction).toBe(direction);
      secondQuestion.accept();
      firstQuestion.accept();
      expect(await Promise.all([first, second])).toEqual(['permitted', 'permitted']);
    });

    test.each([
      ['Accept', Verdict.Accept],
      ['Block', Verdict.Block],
      ['Drop', Verdict.Drop],
    ] as const)('%s: the verdict was for one packet, the next is held', async (_name, verdict) => {
      const simulated = await decided(verdict);
      const outcome = simulated.network.packet(packet(), direction);
      const question = await simulated.question();
      expect(question.payloadLayer).toBe(3);
      question.accept();
      expect(await outcome).toBe('permitted');
    });

    test.each([
      ['PermanentAccept', 'permitted', Verdict.PermanentAccept],
      ['PermanentBlock', 'blocked', Verdict.PermanentBlock],
      ['PermanentDrop', 'dropped', Verdict.PermanentDrop],
      ['Undeterminable', 'dropped', Verdict.Undeterminable],
      ['Failed', 'dropped', Verdict.Failed],
    ] as const)(
      '%s: the next packet is %s without a question',
      async (_name, expected, verdict) => {
        const simulated = await decided(verdict);
        expect(await simulated.network.packet(packet(), direction)).toBe(expected);
        expect(await simulated.untaken('connection')).toEqual([]);
      },
    );
  });
});

describe.each(families)('other protocols over $family', ({ computer, stranger }) => {
  test('a packet that no program sent is asked about once, with ports 0', async () => {
    const simulated = await Simulated.start();
    const echo = ipPacket({ source: computer, destination: stranger, protocol: 'icmp' });
    const outcome = simulated.network.packet(echo, 'outbound');
    const question: ConnectionEvent = await simulated.question();
    expect([question.localPort, question.remotePort, question.processId]).toEqual([0, 0, 0]);
    simulated.device.setVerdict(question.id, Verdict.PermanentAccept);
    expect(await outcome).toBe('permitted');
    expect(await simulated.network.packet(echo, 'outbound')).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test('an inbound packet is left to the ALE layer', async () => {
    const simulated = await Simulated.start();
    const echo = ipPacket({ source: stranger, destination: computer, protocol: 'icmp' });
    expect(await simulated.network.packet(echo, 'inbound')).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });
});

describe('incomplete packets', () => {
  const whole = ipPacket({
    source: '192.0.2.10',
    destination: '198.51.100.7',
    protocol: 'udp',
    sourcePort: 1,
    destinationPort: 2,
    payload: new Uint8Array(64),
  });

  test('a packet that ends in its transport header is blocked and counted', async () => {
    const simulated = await Simulated.start();
    const { malformedPackets } = await simulated.device.getStatistics();
    expect(await simulated.network.packet(whole.subarray(0, 22), 'outbound')).not.toBe('permitted');
    expect((await simulated.device.getStatistics()).malformedPackets).toBe(malformedPackets + 1n);
  });
});

describe('headers longer than the minimum', () => {
  test('IPv4 options are skipped', async () => {
    const simulated = await Simulated.start();
    const outcome = simulated.network.packet(
      ipPacket({
        source: '192.0.2.10',
        destination: '198.51.100.7',
        sourcePort: 1234,
        destinationPort: 80,
        options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0),
      }),
      'outbound',
    );
    const question = await simulated.question();
    expect([question.localPort, question.remotePort]).toEqual([1234, 80]);
    question.accept();
    expect(await outcome).toBe('permitted');
  });

  test('IPv6 hop-by-hop and destination options are skipped', async () => {
    const simulated = await Simulated.start();
    const options = Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0);
    const outcome = simulated.network.packet(
      ipPacket({
        source: '2001:db8::10',
        destination: '2001:db8:ffff::7',
        protocol: 'udp',
        sourcePort: 1234,
        destinationPort: 53,
        extensions: [
          [0, options],
          [60, options],
        ],
      }),
      'outbound',
    );
    const question = await simulated.question();
    expect([question.protocol, question.localPort, question.remotePort]).toEqual([17, 1234, 53]);
    question.accept();
    expect(await outcome).toBe('permitted');
  });
});

test('the DNS traffic of the client to itself is permitted without a question', async () => {
  const simulated = await Simulated.start({ dnsPort: 5353 });
  const query = ipPacket({
    source: '127.0.0.1',
    destination: '127.0.0.1',
    protocol: 'udp',
    sourcePort: 5353,
    destinationPort: 40_000,
  });
  expect(await simulated.network.packet(query, 'outbound')).toBe('permitted');
  expect(await simulated.untaken('connection')).toEqual([]);
});

test('a packet to the broadcast address of a subnet is decided in place, although ALE did not authorize it', async () => {
  const simulated = await Simulated.start();
  const packet = ipPacket({
    source: '192.0.2.10',
    destination: '192.0.2.255',
    protocol: 'udp',
    sourcePort: 137,
    destinationPort: 137,
  });
  expect(await simulated.network.packet(packet, 'outbound')).toBe('permitted');
  (await simulated.question()).block({ permanent: true });
  await expect
    .poll(async () => (await simulated.network.packet(packet, 'outbound')) !== 'permitted')
    .toBe(true);
});
