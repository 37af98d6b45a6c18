/** Successive clients of one driver, as when an application ends and starts again. */

import { describe, expect, test } from 'vitest';
import { Verdict, type Flow, type Outcome } from '../../lib/index.js';
import { ipPacket } from '../support/packets.js';
import { Simulated } from './simulated.js';

const computer = '192.0.2.10';
const remote = { address: '198.51.100.7', port: 443 };

const connect = (simulated: Simulated, processId: number): Flow =>
  simulated.network.connect({ processId, protocol: 'tcp', remote });

const packetOf = (bytes: number, sourcePort: number): Uint8Array =>
  ipPacket({
    source: computer,
    destination: remote.address,
    sourcePort,
    destinationPort: remote.port,
    payload: new Uint8Array(bytes),
  });

test('the next client is asked about new connections, with ids that the previous client did not have', async () => {
  const first = await Simulated.start();
  const ids = [];
  for (const processId of [1, 2]) {
    connect(first, processId);
    ids.push((await first.question()).id);
  }
  await first.device.close();

  const second = await first.reopen();
  connect(second, 3);
  const question = await second.question();
  expect(question.processId).toBe(3);
  expect(ids.every((id) => id < question.id)).toBe(true);
  expect(await second.untaken('connection')).toEqual([]);
});

test("the end of a previous client's connection is not reported to the next client", async () => {
  const first = await Simulated.start();
  const flow = first.network.connect({ processId: 1, protocol: 'udp', remote }); // sends no packet
  (await first.question()).accept({ permanent: true });
  await flow.outcome;
  await first.device.close();

  const second = await first.reopen();
  flow.close();
  expect(await second.untaken('connection')).toEqual([]);
  expect(await second.untaken('connection-end')).toEqual([]);
});

test('the next client receives no answer that the previous client requested', async () => {
  const first = await Simulated.start();
  const flow = connect(first, 1);
  (await first.question()).accept({ permanent: true });
  await flow.outcome;
  await flow.send(new Uint8Array(100));
  const answers = [first.device.getBandwidth(), first.device.getLogs()];
  const closed = first.device.close();
  for (const answer of answers) {
    await expect(answer).rejects.toMatchObject({ code: 'ERR_NETVERDICT_CLOSED' });
  }
  await closed;

  const second = await first.reopen();
  expect(await second.device.getBandwidth()).toEqual([]);
  expect(await second.untaken('log')).toEqual([]);
  expect(await second.untaken('bandwidth')).toEqual([]);
});

describe.each([
  ['open', 'permitted'],
  ['closed', 'blocked'],
] as const)('after a client that fails %s', (failPolicy, expected) => {
  const settled = (outcome: Outcome): Outcome =>
    expected === 'blocked' && outcome === 'dropped' ? 'blocked' : outcome;

  test(`everything that it held is ${expected} when it closes, and is not reported to the next client`, async () => {
    const first = await Simulated.start({ failPolicy });
    const outcomes = [
      connect(first, 1).outcome,
      first.network.connect({ processId: 2, protocol: 'udp', remote }).outcome,
      first.network.packet(packetOf(100, 50_000), 'outbound'),
    ];
    await first.questions(outcomes.length);
    await first.device.close();
    expect((await Promise.all(outcomes)).map(settled)).toEqual(outcomes.map(() => expected));

    const second = await first.reopen();
    expect(await second.untaken('connection')).toEqual([]);
    expect((await second.device.getStatistics()).packetsHeld).toBe(0n);
  });

  test(`traffic between two clients is ${expected}, and the next client is asked again`, async () => {
    const first = await Simulated.start({ failPolicy });
    await first.device.close();
    expect(await connect(first, 1).outcome).toBe(expected);
    expect(settled(await first.network.packet(packetOf(100, 50_000), 'outbound'))).toBe(expected);

    const second = await first.reopen();
    const { outcome } = connect(second, 2);
    (await second.question()).drop({ permanent: true });
    expect(await outcome).toBe('dropped');
  });
});

test('the network keeps working between two clients', async () => {
  const first = await Simulated.start();
  const flow = connect(first, 1);
  (await first.question()).accept({ permanent: true });
  await flow.outcome;
  await first.device.close();

  const { network } = first;
  const server = { address: computer, port: 8080 };
  network.listen({ processId: 2, protocol: 'tcp', local: server });
  const came = network.accept({ processId: 2, protocol: 'tcp', local: server });
  expect(await came.outcome).toBe('permitted');
  expect(await came.receive(new Uint8Array(3))).toBe('permitted');
  expect(await flow.send(new Uint8Array(3))).toBe('permitted');
  expect(network.counters()).toMatchObject({ flowsNow: 2, heldNow: 0 });
  expect(await network.load({ connections: 10 })).toMatchObject({ permitted: 10 });
  first.clock.advance(1);
});

test('the next client is asked about a connection that the previous client accepted permanently', async () => {
  const first = await Simulated.start();
  const flow = connect(first, 1);
  (await first.question()).accept({ permanent: true });
  await flow.outcome;
  await first.device.close();

  const second = await first.reopen();
  const sent = flow.send(new Uint8Array(3));
  const question = await second.question();
  expect(question).toMatchObject({ remoteAddress: remote.address, remotePort: remote.port });
  question.accept({ permanent: true });
  expect(await sent).toBe('permitted');
});

test('a verdict with an id of the previous client has no effect', async () => {
  const first = await Simulated.start();
  const before = connect(first, 1);
  const { id } = await first.question();
  await first.device.close();
  expect(await before.outcome).toBe('permitted');

  const second = await first.reopen();
  const after = connect(second, 2);
  const question = await second.question();
  second.device.setVerdict(id, Verdict.PermanentBlock);
  await second.device.getLogs(); // answered after the verdict
  expect(await second.counted('verdictsUnknownId')).toBe(1n);
  expect(await second.counted('verdictsApplied')).toBe(0n);
  expect((await second.device.getStatistics()).packetsHeld).toBe(1n);
  question.accept({ permanent: true });
  expect(await after.outcome).toBe('permitted');
});

test('a second client is refused while one is open, and does not disturb it', async () => {
  const first = await Simulated.start();
  await expect(first.reopen()).rejects.toMatchObject({ code: 'ERR_NETVERDICT_BUSY' });
  const { outcome } = connect(first, 1);
  (await first.question()).block({ permanent: true });
  expect(await outcome).toBe('blocked');
});

test('opening the device again waits for a close in progress', async () => {
  const first = await Simulated.start();
  void first.device.close();
  const second = await first.reopen();
  connect(second, 2);
  expect((await second.question()).processId).toBe(2);
});

test('the driver filters for the next client after a shutdown by the previous client', async () => {
  const first = await Simulated.start({ failPolicy: 'closed' });
  first.device.shutdown();
  await first.device.close();
  expect(await connect(first, 1).outcome).toBe('blocked');

  const second = await first.reopen();
  const { outcome } = connect(second, 2);
  (await second.question()).accept({ permanent: true });
  expect(await outcome).toBe('permitted');
});

test('the options of a client do not apply to the next client', async () => {
  const first = await Simulated.start({
    failPolicy: 'closed',
    pendingTimeoutMs: 500,
    timeoutVerdict: Verdict.Drop,
    logLevel: 'error',
    payloadLimit: 4,
    maxHeldPackets: 1,
  });
  await first.device.close();

  const second = await first.reopen();
  const packets = [1, 2, 3].map((port) => second.network.packet(packetOf(100, port), 'outbound'));
  const questions = await second.questions(packets.length);
  expect(questions.map((question) => question.payload.length)).toEqual([140, 140, 140]);
  second.clock.advance(1500);
  second.device.setVerdict(999_999n, Verdict.Accept);
  expect((await second.device.getLogs()).map((line) => line.message).join()).toContain('999999');
  expect(await second.untaken('timeout')).toEqual([]);
  expect(await second.untaken('lost')).toEqual([]);
  await second.device.close();
  expect(await Promise.all(packets)).toEqual(['permitted', 'permitted', 'permitted']);
});

test('sixty clients leave no memory allocated in the driver', async () => {
  let client = await Simulated.start();
  const { network } = client;
  const held = [];
  for (let n = 1; n <= 60; n++) {
    const flow = connect(client, n);
    await client.question();
    await client.device.close();
    expect(await flow.outcome).toBe('permitted');
    flow.close();
    held.push(network.poolBytes());
    client = await client.reopen();
  }
  expect(held.at(-1)).toBeLessThanOrEqual(Math.max(...held.slice(0, 20)));
});
