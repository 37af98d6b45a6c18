/** Floods over a limit: another process is asked about and decided all the time, and the flooder is refused. */

import { describe, expect, test } from 'vitest';
import type { ConnectionEvent, Flow, Network } from '../../lib/index.js';
import { Simulated } from './simulated.js';

const FLOODER = 6660;
const BYSTANDER = 2;
const SERVER = { processId: 7, protocol: 'udp', local: { port: 5353 } } as const;
const bytes = new TextEncoder().encode('hello');

/** Remote address number `n`, each in another network. */
function scattered(n: number): string {
  return `11.${n >> 8}.${n & 255}.9`;
}

const shapes: Record<string, (network: Network, n: number) => Flow> = {
  'a scan': (network, n) =>
    network.connect({
      processId: FLOODER,
      protocol: 'tcp',
      remote: { address: scattered(n), port: 443 },
    }),
  'one socket to many': (network, n) =>
    network.connect({
      processId: FLOODER,
      protocol: 'udp',
      local: { port: 50_000 },
      remote: { address: scattered(n), port: 6881 },
    }),
  'many senders to one port': (network, n) =>
    network.accept({ ...SERVER, remote: { address: scattered(n), port: 40_000 } }),
  'echo requests': (network, n) =>
    network.connect({
      processId: FLOODER,
      protocol: 'icmp',
      remote: { address: scattered(n) },
    }),
};
const all = Object.values(shapes);
shapes['everything at once'] = (network, n) => all[n % all.length]!(network, n);

/** Another process connects. Fewer than 1,000 questions come before its own, and its verdict is carried out. */
async function expectBystander(
  simulated: Simulated,
  take: (question: ConnectionEvent) => void,
): Promise<void> {
  const flow = simulated.network.connect({
    processId: BYSTANDER,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  let before = 0;
  let question = await simulated.question();
  for (; question.processId !== BYSTANDER; question = await simulated.question()) {
    take(question);
    before += 1;
  }
  expect(before).toBeLessThan(1000);
  question.accept({ permanent: true });
  expect(await flow.outcome).toBe('permitted');
  flow.close();
}

describe.each(['open', 'closed'] as const)(
  'failing %s, a flood that nobody decides',
  (failPolicy) => {
    test.each(Object.entries(shapes))('of %s is refused', async (_name, begin) => {
      const simulated = await Simulated.start({ failPolicy, maxHeldPackets: 32 });
      const flood: Flow[] = [];
      const asked: ConnectionEvent[] = [];
      for (let round = 0; round < 6; round++) {
        for (let i = 0; i < 32; i++) flood.push(begin(simulated.network, flood.length));
        await expectBystander(simulated, (question) => asked.push(question));
      }

      asked.push(...(await simulated.untaken('connection')));
      for (const question of asked) question.block({ permanent: true });
      const outcomes = new Set(await Promise.all(flood.map((flow) => flow.outcome)));
      expect(outcomes).not.toContain('permitted');
      expect((await simulated.device.getStatistics()).packetsHeld).toBe(0n);
      await expectBystander(simulated, () => undefined);
    });
  },
);

test.each(Object.entries(shapes))(
  '%s over the limit of connections leaves those of others as they are',
  async (_name, begin) => {
    const simulated = await Simulated.start({ maxConnections: 4096 });
    const { network, clock } = simulated;
    const accept = (question: ConnectionEvent): void => {
      question.accept({ permanent: true });
    };
    const idle = Array.from({ length: 50 }, (_unused, n) =>
      network.accept({ ...SERVER, remote: { address: `203.0.${n % 10}.${n}`, port: 50_000 } }),
    );
    (await simulated.questions(idle.length)).forEach(accept);
    async function expectIdle(): Promise<void> {
      for (const flow of idle) {
        expect(await flow.receive(bytes)).toBe('permitted');
        expect(await flow.send(bytes)).toBe('permitted');
      }
    }
    await expectIdle();
    await expectIdle();

    for (let n = 0; n < 5120; n++) {
      begin(network, n);
      if (n % 256 === 255) await expectBystander(simulated, accept);
      if (n % 1024 === 1023) clock.advance(1000);
    }
    await expectBystander(simulated, accept);
    expect(await simulated.untaken('connection')).toEqual([]);
    await expectIdle();
    expect(await simulated.untaken('connection')).toEqual([]);
  },
);
