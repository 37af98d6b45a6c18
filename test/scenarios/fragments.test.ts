/** Datagrams in fragments: all fragments share the fate of the first one. */

import { describe, expect, test } from 'vitest';
import { Verdict, type Outcome } from '../../lib/index.js';
import { fragmentsOf, ipPacket } from '../support/packets.js';
import { Simulated } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;

const cases = families.flatMap((addresses) =>
  (['outbound', 'inbound'] as const).map((direction) => ({ ...addresses, direction })),
);

type Fragments = [Uint8Array, Uint8Array, Uint8Array];

describe.each(cases)('an $direction datagram over $family', ({ computer, stranger, direction }) => {
  const outgoing = ipPacket({
    source: computer,
    destination: stranger,
    protocol: 'udp',
    sourcePort: 50_000,
    destinationPort: 4500,
  });

  function fragments(size = 24): Fragments {
    const [local, remote] = [
      { address: computer, port: 50_000 },
      { address: stranger, port: 4500 },
    ];
    const [from, to] = direction === 'outbound' ? [local, remote] : [remote, local];
    const whole = ipPacket({
      source: from.address,
      destination: to.address,
      protocol: 'udp',
      sourcePort: from.port,
      destinationPort: to.port,
      payload: Uint8Array.from({ length: 64 }, (_, index) => index),
    });
    return fragmentsOf(whole, size, 7) as Fragments;
  }

  /** A computer on which the datagram's connection already has the verdict. */
  async function decided(verdict: Verdict): Promise<Simulated> {
    const simulated = await Simulated.start({ logLevel: 'error' });
    const outcome = simulated.network.packet(outgoing, 'outbound');
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    await outcome;
    return simulated;
  }

  test.each([
    ['PermanentAccept', 'permitted', Verdict.PermanentAccept, 0n],
    ['PermanentBlock', 'blocked', Verdict.PermanentBlock, 3n],
    ['PermanentDrop', 'dropped', Verdict.PermanentDrop, 3n],
  ] as const)('of a connection with %s is %s', async (_name, expected, verdict, blocked) => {
    const simulated = await decided(verdict);
    for (const fragment of fragments()) {
      expect(await simulated.network.packet(fragment, direction)).toBe(expected);
    }
    expect(await simulated.counted('fragmentsBlocked')).toBe(blocked);
  });

  test.each([
    ['Accept', 'permitted', Verdict.Accept],
    ['Block', 'dropped', Verdict.Block],
  ] as const)(
    'is asked about once, in any order, and with %s it is %s',
    async (_name, expected, verdict) => {
      const simulated = await decided(Verdict.Accept);
      const [first, second, third] = fragments();
      const outcomes = [third, first, second].map((fragment) =>
        simulated.network.packet(fragment, direction),
      );
      const question = await simulated.question();
      expect(question).toMatchObject({ direction, localPort: 50_000, payload: first });
      expect(await simulated.untaken('connection')).toEqual([]);
      simulated.device.setVerdict(question.id, verdict);
      expect(await Promise.all(outcomes)).toEqual([expected, expected, expected]);
    },
  );

  test('without its first fragment is dropped and counted within two seconds', async () => {
    const simulated = await decided(Verdict.PermanentAccept);
    const outcome = simulated.network.packet(fragments()[1], direction);
    expect(await simulated.counted('fragmentsBlocked')).toBe(0n);
    simulated.clock.advance(2100);
    expect(await outcome).toBe('dropped');
    expect(await simulated.counted('fragmentsBlocked')).toBe(1n);
  });

  test('with overlapping fragments is blocked from the overlap on', async () => {
    const { network } = await decided(Verdict.PermanentAccept);
    const [first, , third] = fragments();
    const [, overlap] = fragments(16);
    expect(await network.packet(first, direction)).toBe('permitted');
    expect(await network.packet(overlap, direction)).toBe('blocked');
    expect(await network.packet(third, direction)).toBe('blocked');
  });

  test('releases its held fragments when filtering stops', async () => {
    const simulated = await decided(Verdict.Accept);
    const [first, second] = fragments();
    const outcomes = [first, second].map((piece) => simulated.network.packet(piece, direction));
    await simulated.question();
    simulated.device.shutdown();
    expect(await Promise.all(outcomes)).toEqual(['permitted', 'permitted']);
  });

  test('without its first fragment is dropped when filtering stops', async () => {
    const { network, device } = await decided(Verdict.PermanentAccept);
    const outcome = network.packet(fragments()[1], direction);
    device.shutdown();
    expect(await outcome).toBe('dropped');
  });
});

describe.each(families)(
  'an inbound datagram in fragments over $family',
  ({ family, computer, stranger }) => {
    function fragments(id: number): Fragments {
      const whole = ipPacket({
        source: stranger,
        destination: computer,
        protocol: 'udp',
        sourcePort: 4500,
        destinationPort: 5353,
        payload: new Uint8Array(64),
      });
      return fragmentsOf(whole, 24, id) as Fragments;
    }

    /** A computer on which a program listens. */
    async function listening(): Promise<Simulated> {
      const simulated = await Simulated.start({ logLevel: 'error' });
      const ipVersion = family === 'IPv4' ? 4 : 6;
      simulated.network.listen({
        processId: 53,
        protocol: 'udp',
        local: { port: 5353 },
        ipVersion,
      });
      return simulated;
    }

    function arrive({ network }: Simulated, pieces: readonly Uint8Array[]): Promise<Outcome>[] {
      return pieces.map((piece) => network.packet(piece, 'inbound'));
    }

    /** The number of bytes that the program has received since the last call. */
    async function received({ device }: Simulated): Promise<bigint> {
      const entries = await device.getBandwidth();
      return entries.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0n);
    }

    const orders = [
      ['in order', [0, 1, 2]],
      ['out of order', [2, 0, 1]],
    ] as const;

    test.each(orders)('reaches the program once, %s', async (_name, order) => {
      const simulated = await listening();
      const first = fragments(1);
      const outcomes = arrive(
        simulated,
        order.map((index) => first[index]),
      );
      const question = await simulated.question();
      expect(question).toMatchObject({ direction: 'inbound', processId: 53, localPort: 5353 });
      expect(question.payload).toHaveLength(8 + 64);
      question.accept({ permanent: true });
      expect(await Promise.all(outcomes)).toEqual(['permitted', 'permitted', 'permitted']);
      expect(await received(simulated)).toBe(64n);

      const second = fragments(2);
      const next = arrive(
        simulated,
        order.map((index) => second[index]),
      );
      expect(await Promise.all(next)).toEqual(['permitted', 'permitted', 'permitted']);
      expect(await received(simulated)).toBe(64n);
      expect(await simulated.untaken('connection')).toEqual([]);
      expect(await simulated.counted('fragmentsBlocked')).toBe(0n);
    });

    test.each(orders)('does not reach the program when it is blocked, %s', async (_name, order) => {
      const simulated = await listening();
      const first = fragments(1);
      const outcomes = arrive(
        simulated,
        order.map((index) => first[index]),
      );
      (await simulated.question()).block({ permanent: true });
      await Promise.all(outcomes);

      const second = fragments(2);
      await Promise.all(
        arrive(
          simulated,
          order.map((index) => second[index]),
        ),
      );
      expect(await received(simulated)).toBe(0n);
      expect(await simulated.untaken('connection')).toEqual([]);
      expect(await simulated.counted('fragmentsBlocked')).toBe(3n);
    });

    test.each(orders)(
      'is asked about once with a verdict for one packet, %s',
      async (_name, order) => {
        const simulated = await listening();
        for (const [id, verdict, bytes] of [
          [1, Verdict.Accept, 64n],
          [2, Verdict.Accept, 64n],
          [3, Verdict.Block, 0n],
        ] as const) {
          const pieces = fragments(id);
          const outcomes = arrive(
            simulated,
            order.map((index) => pieces[index]),
          );
          const question = await simulated.question();
          expect(await simulated.untaken('connection')).toEqual([]);
          simulated.device.setVerdict(question.id, verdict);
          await Promise.all(outcomes);
          expect(await simulated.untaken('connection')).toEqual([]);
          expect(await received(simulated)).toBe(bytes);
        }
      },
    );
  },
);
