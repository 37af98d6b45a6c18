/** A flood of one owner decides nothing for another, and is no way past the firewall. */

import { describe, expect, test } from 'vitest';
import type { ConnectionEvent, Flow } from '../../lib/index.js';
import { Simulated } from './simulated.js';

const remote = { address: '198.51.100.7', port: 443 };
const limit = 64;

function connect(simulated: Simulated, processId: number, processPath?: string): Flow {
  const image = processPath === undefined ? {} : { processPath };
  return simulated.network.connect({ processId, protocol: 'tcp', remote, ...image });
}

function arrive(simulated: Simulated, address: string, port: number): Flow {
  return simulated.network.accept({
    processId: 7,
    protocol: 'tcp',
    local: { port },
    remote: { address },
  });
}

/** Permits what the next question is about. */
async function permitNext(simulated: Simulated): Promise<ConnectionEvent> {
  const question = await simulated.question();
  question.accept({ permanent: true });
  return question;
}

/** The questions that come before one that `isExpected`. */
async function questionsBefore(
  simulated: Simulated,
  isExpected: (question: ConnectionEvent) => boolean,
): Promise<number> {
  for (let count = 0; ; count++) {
    if (isExpected(await simulated.question())) return count;
  }
}

describe.each(['open', 'closed'] as const)('failing %s', (failPolicy) => {
  test('a process that leaves everything undecided is refused its next connection', async () => {
    const simulated = await Simulated.start({ failPolicy, maxHeldPackets: limit });
    const flood = Array.from({ length: limit }, () => connect(simulated, 1));
    const asked = await simulated.questions(limit);

    expect(await connect(simulated, 1).outcome).toBe('blocked');
    expect(await simulated.next('timeout')).toMatchObject({ id: 0n, cause: 'share' });
    expect(await simulated.next('lost')).toMatchObject({
      count: 1n,
      reason: 'owner-share',
      processId: 1,
    });

    asked[0]?.accept({ permanent: true });
    expect(await flood[0]?.outcome).toBe('permitted');
    const again = connect(simulated, 1);
    await permitNext(simulated);
    expect(await again.outcome).toBe('permitted');
  });

  test('another process is asked about, and the flooder gives up its newest question', async () => {
    const simulated = await Simulated.start({ failPolicy, maxHeldPackets: limit });
    const flood = Array.from({ length: limit }, () => connect(simulated, 1));
    const asked = await simulated.questions(limit);

    const other = connect(simulated, 2);
    expect((await permitNext(simulated)).processId).toBe(2);
    expect(await other.outcome).toBe('permitted');
    expect(await flood.at(-1)?.outcome).toBe('blocked');
    expect(await simulated.next('timeout')).toMatchObject({
      id: asked.at(-1)?.id,
      cause: 'share',
      connection: { processId: 1 },
    });
  });
});

test('sixty-four processes of one image have one share', async () => {
  const simulated = await Simulated.start({ maxHeldPackets: limit });
  const flood = Array.from({ length: limit }, (_unused, index) =>
    connect(simulated, 100 + index, 'C:\\flood.exe'),
  );
  await simulated.questions(limit);

  const other = connect(simulated, 2);
  await permitNext(simulated);
  expect(await other.outcome).toBe('permitted');
  expect(await flood.at(-1)?.outcome).toBe('blocked');
  const next = connect(simulated, 300, 'C:\\flood.exe');
  await simulated.question();
  expect(await connect(simulated, 301, 'C:\\flood.exe').outcome).toBe('blocked');
  next.close();
});

test('sixty-four images that hold everything give way to another one', async () => {
  const simulated = await Simulated.start({ maxHeldPackets: limit * 4 });
  for (let round = 0; round < 4; round++) {
    for (let process = 100; process < 100 + limit; process++) connect(simulated, process);
  }
  await simulated.questions(limit * 4);

  const other = connect(simulated, 2);
  expect((await permitNext(simulated)).processId).toBe(2);
  expect(await other.outcome).toBe('permitted');
});

test('an inbound flood from many networks gives way to an honest remote and to an outbound connection', async () => {
  const simulated = await Simulated.start({ maxHeldPackets: limit });
  for (let network = 0; network < limit * 4; network++) {
    arrive(simulated, `100.64.${network}.9`, 443);
  }
  await simulated.questions(limit);

  const outbound = connect(simulated, 2);
  await questionsBefore(simulated, ({ direction }) => direction === 'outbound');
  arrive(simulated, '203.0.113.5', 22);
  await questionsBefore(simulated, ({ localPort }) => localPort === 22);
  outbound.close();
});

test('a client that has not read a flood yet is soon asked about another process', async () => {
  const simulated = await Simulated.start({ readBuffers: 1, readBufferSize: 4096 });
  for (let flood = 0; flood < 3000; flood++) connect(simulated, 100 + (flood % 4));
  connect(simulated, 2);
  const before = await questionsBefore(simulated, ({ processId }) => processId === 2);
  expect(before).toBeLessThan(1000);
});

test('after a flood everything is as before', async () => {
  const simulated = await Simulated.start({ maxHeldPackets: limit });
  const flood = Array.from({ length: limit * 3 }, () => connect(simulated, 1));
  for (const question of await simulated.questions(limit)) question.block({ permanent: true });
  expect(new Set(await Promise.all(flood.map((flow) => flow.outcome)))).toEqual(
    new Set(['blocked']),
  );
  expect((await simulated.device.getStatistics()).packetsHeld).toBe(0n);

  for (const processId of [1, 2]) {
    const flow = connect(simulated, processId);
    expect((await permitNext(simulated)).processId).toBe(processId);
    expect(await flow.outcome).toBe('permitted');
  }
});
