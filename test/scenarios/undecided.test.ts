/** Without a verdict no packet is permitted, and no packet waits forever. */

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Verdict, type Outcome } from '../../lib/index.js';
import { ipPacket } from '../support/packets.js';
import { startComputer } from './computer.js';
import { Simulated } from './simulated.js';

const remote = { address: '198.51.100.7', port: 443 };

test('nothing is permitted without a verdict', async () => {
  const simulated = await Simulated.start();
  const flows = Array.from({ length: 20 }, (_, index) =>
    simulated.network.connect({ processId: index, protocol: index % 2 ? 'tcp' : 'udp', remote }),
  );
  await simulated.questions(flows.length);
  const counters = simulated.network.counters();
  expect([counters.outbound.permitted, counters.inbound.permitted]).toEqual([0, 0]);
  expect((await simulated.device.getStatistics()).packetsHeld).toBe(20n);
});

describe.each([
  ['open', 'permitted'],
  ['closed', 'blocked'],
] as const)('failing %s', (failPolicy, expected) => {
  /** A computer that holds one packet of each kind, and their outcomes. */
  async function holding(): Promise<{ simulated: Simulated; outcomes: Promise<Outcome>[] }> {
    const simulated = await Simulated.start({ failPolicy });
    const { network } = simulated;
    const outcomes = [
      network.connect({ processId: 1, protocol: 'tcp', remote }).outcome,
      network.connect({ processId: 2, protocol: 'udp', remote }).outcome,
      network.accept({ processId: 3, protocol: 'tcp', local: { port: 80 } }).outcome,
      network.connect({ processId: 4, protocol: 'icmp', remote: { address: '198.51.100.7' } })
        .outcome,
    ];
    await simulated.questions(outcomes.length);
    return { simulated, outcomes };
  }

  const settled = (outcome: Outcome): unknown =>
    expected === 'permitted' ? outcome : outcome === 'dropped' ? 'blocked' : outcome;

  test(`closing the device decides everything that is held: ${expected}`, async () => {
    const { simulated, outcomes } = await holding();
    await simulated.device.close();
    expect((await Promise.all(outcomes)).map(settled)).toEqual(outcomes.map(() => expected));
  });

  test(`the shutdown command decides everything that is held: ${expected}`, async () => {
    const { simulated, outcomes } = await holding();
    simulated.device.shutdown();
    expect((await Promise.all(outcomes)).map(settled)).toEqual(outcomes.map(() => expected));
  });

  test(`after the shutdown command everything new is ${expected}`, async () => {
    const { device, network } = await Simulated.start({ failPolicy });
    device.shutdown();
    const packet = ipPacket({ source: '192.0.2.10', destination: remote.address });
    const outcomes = await Promise.all([
      network.connect({ processId: 1, protocol: 'tcp', remote }).outcome,
      network.accept({ processId: 2, protocol: 'udp', local: { port: 53 } }).outcome,
      network.packet(packet, 'outbound'),
      network.packet(packet.subarray(0, 22), 'outbound'),
    ]);
    expect(outcomes.map(settled)).toEqual(outcomes.map(() => expected));
  });

  test('over the limit of held packets, the newest packet is blocked, and the loss is reported', async () => {
    const simulated = await Simulated.start({ failPolicy, maxHeldPackets: 2 });
    const packet = (port: number): Uint8Array =>
      ipPacket({
        source: '192.0.2.10',
        destination: remote.address,
        sourcePort: port,
        destinationPort: 443,
      });
    void simulated.network.packet(packet(1), 'outbound');
    void simulated.network.packet(packet(2), 'outbound');
    expect(await simulated.network.packet(packet(3), 'outbound')).toBe('blocked');
    expect(await simulated.next('lost')).toMatchObject({ count: 1n, reason: 'owner-share' });
  });
});

test('after the pending timeout, the timeout verdict is applied and reported', async () => {
  const simulated = await Simulated.start({
    pendingTimeoutMs: 5000,
    timeoutVerdict: Verdict.PermanentBlock,
  });
  const flow = simulated.network.connect({ processId: 1, protocol: 'tcp', remote });
  const question = await simulated.question();
  simulated.clock.advance(6000);
  expect((await simulated.next('timeout')).id).toBe(question.id);
  expect(await flow.outcome).toBe('blocked');
});

test("without a pending timeout, the computer's connect timeout ends the connection", async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({ processId: 1, protocol: 'tcp', remote });
  await simulated.question();
  simulated.clock.advance(22_000);
  expect(await flow.outcome).toBe('pending-timeout');
});

test('a verdict for an id that is not pending is counted and logged, and has no effect', async () => {
  const simulated = await Simulated.start();
  const { verdictsUnknownId } = await simulated.device.getStatistics();
  simulated.device.setVerdict(999_999n, Verdict.PermanentAccept);
  const lines = await simulated.device.getLogs();
  expect(lines.map((line) => line.severity)).toContain('warning');
  expect((await simulated.device.getStatistics()).verdictsUnknownId).toBe(verdictsUnknownId + 1n);
});

test('a full event queue loses no packet: each is held or refused, and what is refused is counted', async () => {
  await using simulator = await startComputer({
    failPolicy: 'closed',
    maxQueuedBytes: 64 * 1024,
    maxHeldPackets: 100_000,
    readBuffers: 1,
    readBufferSize: 1024,
    highWaterMark: 1024,
  });
  const before = await simulator.device.getStatistics();
  const flows = Array.from({ length: 1500 }, (_unused, index) =>
    simulator.network.connect({ processId: index, protocol: 'tcp', remote }),
  );
  const after = await simulator.device.getStatistics();
  const eventsLost = after.eventsLost - before.eventsLost;
  const eventsQueued = after.eventsQueued - before.eventsQueued;
  expect(eventsLost).toBeGreaterThan(0n);
  expect(eventsLost + eventsQueued).toBeGreaterThanOrEqual(1500n);
  await simulator.device.close();
  const outcomes = await Promise.all(flows.map((flow) => flow.outcome));
  expect(outcomes.filter((outcome) => outcome === 'permitted')).toEqual([]);
});

test('no packet of a blocked connection passes, in any order of verdict and packet', async () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('packet' as const),
      direction: fc.constantFrom('outbound', 'inbound'),
    }),
    fc.record({
      do: fc.constant('verdict' as const),
      verdict: fc.constantFrom(
        Verdict.Block,
        Verdict.PermanentBlock,
        Verdict.Drop,
        Verdict.PermanentDrop,
        Verdict.Failed,
        Verdict.Undeterminable,
      ),
    }),
    fc.record({ do: fc.constant('reauthorize' as const) }),
    fc.record({ do: fc.constant('send' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), async (steps) => {
      const simulator = await startComputer({ clock: 'virtual', failPolicy: 'closed' });
      const { device, network } = simulator;
      try {
        const local = { address: '192.0.2.10', port: 50_000 };
        const flow = network.connect({ processId: 1, protocol: 'tcp', local, remote });
        const asked: bigint[] = [];
        const collecting = (async () => {
          for await (const event of device.events({ types: ['connection'] })) asked.push(event.id);
        })();
        const outcomes = [flow.outcome];
        const packet = (direction: 'outbound' | 'inbound'): Uint8Array =>
          direction === 'outbound'
            ? ipPacket({
                source: local.address,
                destination: remote.address,
                sourcePort: local.port,
                destinationPort: remote.port,
              })
            : ipPacket({
                source: remote.address,
                destination: local.address,
                sourcePort: remote.port,
                destinationPort: local.port,
              });
        for (const now of steps) {
          await new Promise((resolve) => setImmediate(resolve));
          if (now.do === 'packet') {
            const { direction } = now;
            outcomes.push(network.packet(packet(direction), direction));
          } else if (now.do === 'verdict') {
            const id = asked.shift();
            if (id !== undefined) device.setVerdict(id, now.verdict);
          } else if (now.do === 'send') {
            outcomes.push(flow.send(new Uint8Array(10)));
          } else {
            network.reauthorize();
          }
        }
        await device.close();
        await collecting;
        expect((await Promise.all(outcomes)).filter((outcome) => outcome === 'permitted')).toEqual(
          [],
        );
      } finally {
        await simulator.close();
      }
    }),
    { numRuns: 50 },
  );
});

test('the replay of a capture without verdicts permits no connection, and closing ends it', async () => {
  // Neighbour and listener discovery, which the host sent before its first connection.
  const controlPackets = 10;
  const capture = new URL('../../captures/host-traffic.pcap', import.meta.url);
  expect((await readFile(capture)).length).toBeGreaterThan(1_000_000);
  const simulator = await startComputer({ failPolicy: 'closed' });
  const abort = new AbortController();
  const replay = simulator.network.replay(fileURLToPath(capture), {
    local: ['10.77.0.2', 'fd77::2'],
    signal: abort.signal,
  });
  const events = simulator.device.events({ types: ['connection'] });
  await events.next();
  expect(simulator.network.counters().outbound.permitted).toBeLessThanOrEqual(controlPackets);
  abort.abort(new Error('seen enough'));
  await expect(replay).rejects.toThrow('seen enough');
  await simulator.close();
});
