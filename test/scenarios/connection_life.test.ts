/** A connection from its first packet to its end: each event is reported once. */

import { describe, expect, test } from 'vitest';
import { Verdict } from '../../lib/index.js';
import { Simulated, Wire } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;

describe.each(families)('over $family', ({ computer, stranger }) => {
  const local = { address: computer, port: 50_010 };
  const remote = { address: stranger, port: 443 };

  test.each(['tcp', 'udp'] as const)(
    'the end of a %s connection is reported once, with its process',
    async (protocol) => {
      const simulated = await Simulated.start();
      const flow = simulated.network.connect({ processId: 7, protocol, local, remote });
      (await simulated.question()).accept({ permanent: true });
      await flow.outcome;
      flow.close();
      const end = await simulated.next('connection-end');
      expect({
        processId: end.processId,
        direction: end.direction,
        protocolName: end.protocolName,
        localAddress: end.localAddress,
        localPort: end.localPort,
        remoteAddress: end.remoteAddress,
        remotePort: end.remotePort,
      }).toEqual({
        processId: 7,
        direction: 'outbound',
        protocolName: protocol,
        localAddress: computer,
        localPort: 50_010,
        remoteAddress: stranger,
        remotePort: 443,
      });
      expect(await simulated.untaken('connection-end')).toEqual([]);
    },
  );

  test('a reused port is a new connection, and the client is asked about it', async () => {
    const simulated = await Simulated.start();
    const first = simulated.network.connect({ processId: 7, protocol: 'tcp', local, remote });
    (await simulated.question()).accept({ permanent: true });
    await first.outcome;
    first.close();
    await simulated.next('connection-end');
    const second = simulated.network.connect({ processId: 8, protocol: 'tcp', local, remote });
    const question = await simulated.question();
    expect(question.processId).toBe(8);
    question.block({ permanent: true });
    expect(await second.outcome).toBe('blocked');
  });

  test('the start of a process is named with its connections', async () => {
    const simulated = await Simulated.start();
    for (const port of [443, 80]) {
      simulated.network.connect({
        processId: 7,
        protocol: 'udp',
        local,
        remote: { address: stranger, port },
      });
    }
    const starts = (await simulated.questions(2)).map((question) => question.processStart);
    expect(starts).toEqual([expect.any(Number), starts[0]]);
    const connections = await simulated.device.connections();
    expect(connections.map((connection) => connection.processStart)).toEqual(starts);
  });

  test('two applications with the same remote endpoint are two connections', async () => {
    const simulated = await Simulated.start();
    const one = simulated.network.connect({ processId: 1, protocol: 'tcp', local, remote });
    const other = simulated.network.connect({
      processId: 2,
      protocol: 'tcp',
      local: { address: computer, port: 50_011 },
      remote,
    });
    const questions = [await simulated.question(), await simulated.question()];
    for (const question of questions) {
      simulated.device.setVerdict(
        question.id,
        question.processId === 1 ? Verdict.PermanentAccept : Verdict.PermanentBlock,
      );
    }
    expect([await one.outcome, await other.outcome]).toEqual(['permitted', 'blocked']);
  });

  test.each(['tcp', 'udp'] as const)(
    'the payload of a %s connection is counted',
    async (protocol) => {
      const simulated = await Simulated.start();
      const flow = simulated.network.connect({ processId: 7, protocol, local, remote });
      (await simulated.question()).accept({ permanent: true });
      await flow.outcome;
      await flow.send(new Uint8Array(1000));
      await flow.send(new Uint8Array(234));
      await flow.receive(new Uint8Array(555));
      const entries = await simulated.device.getBandwidth();
      expect(
        entries.map((entry) => [
          entry.localAddress,
          entry.localPort,
          entry.remoteAddress,
          entry.remotePort,
          entry.transmittedBytes,
          entry.receivedBytes,
        ]),
      ).toEqual([[computer, 50_010, stranger, 443, 1234n, 555n]]);
      expect(await simulated.device.getBandwidth()).toEqual([]);
    },
  );
});

test('a changed verdict applies to the next packet of a live connection', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'udp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  const question = await simulated.question();
  question.accept({ permanent: true });
  await flow.outcome;
  expect(await flow.send(new Uint8Array(10))).toBe('permitted');
  simulated.device.updateVerdict(question, Verdict.PermanentBlock);
  expect(await flow.send(new Uint8Array(10))).not.toBe('permitted');
  // If the stack has authorized the flow again in between, it refuses until the next authorization.
  simulated.device.updateVerdict(question, Verdict.PermanentAccept);
  await expect.poll(() => flow.send(new Uint8Array(10))).toBe('permitted');
});

test('the driver shows its connections, with totals that no bandwidth report resets', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  const question = await simulated.question();
  expect(await simulated.device.connections()).toMatchObject([
    { id: question.id, waiting: true, ended: false, verdict: Verdict.Undecided, processId: 7 },
  ]);
  question.accept({ permanent: true });
  await flow.outcome;
  await flow.send(new Uint8Array(10));
  await simulated.device.getBandwidth();
  await flow.send(new Uint8Array(5));
  expect(await simulated.device.connections()).toMatchObject([
    { id: undefined, waiting: false, verdict: Verdict.PermanentAccept, transmitted: 15n },
  ]);
  flow.close();
  expect(await simulated.device.connections()).toMatchObject([{ ended: true }]);
});

test('an update says whether the driver knows the connection, and may ask about it again', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  const question = await simulated.question();
  question.accept({ permanent: true });
  await flow.outcome;
  const { protocol, localAddress, localPort, remoteAddress, remotePort } = question;
  const identity = { protocol, localAddress, localPort, remoteAddress, remotePort };
  const stranger = { ...identity, remotePort: 444 };
  expect(simulated.device.updateVerdict(stranger, Verdict.PermanentBlock)).toBe(false);
  expect(simulated.device.updateVerdict(identity, 'ask')).toBe(true);
  const sent = flow.send(new Uint8Array(10));
  (await simulated.question()).accept({ permanent: true });
  expect(await sent).toBe('permitted');
});

test('after the cache is cleared, the client is asked again about a live connection', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  (await simulated.question()).accept({ permanent: true });
  await flow.outcome;
  simulated.device.clearCache();
  const sent = flow.send(new Uint8Array(10));
  (await simulated.question()).block({ permanent: true });
  expect(await sent).not.toBe('permitted');
});

test('the driver removes connections that ended over a minute ago', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  (await simulated.question()).accept({ permanent: true });
  await flow.outcome;
  flow.close();
  await simulated.next('connection-end');
  expect((await simulated.device.getStatistics()).connections).toBe(1n);
  simulated.clock.advance(70_000);
  expect((await simulated.device.getStatistics()).connections).toBe(0n);
});

test('the driver removes a UDP connection that was idle for ten minutes, but not one in use', async () => {
  const simulated = await Simulated.start();
  const idle = simulated.network.connect({
    processId: 7,
    protocol: 'udp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  (await simulated.question()).accept({ permanent: true });
  const used = simulated.network.connect({
    processId: 7,
    protocol: 'udp',
    remote: { address: '198.51.100.8', port: 443 },
  });
  (await simulated.question()).accept({ permanent: true });
  await Promise.all([idle.outcome, used.outcome]);
  simulated.clock.advance(400_000);
  await used.send(new Uint8Array(1));
  simulated.clock.advance(300_000);
  simulated.device.cleanEndedConnections();
  expect((await simulated.device.getStatistics()).connections).toBe(1n);
});

test('a TCP connection stays until its closure, however idle it is', async () => {
  const simulated = await Simulated.start();
  const flow = simulated.network.connect({
    processId: 7,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  (await simulated.question()).accept({ permanent: true });
  await flow.outcome;
  simulated.clock.advance(3_600_000);
  simulated.device.cleanEndedConnections();
  expect((await simulated.device.getStatistics()).connections).toBe(1n);
  expect(await flow.send(new Uint8Array(10))).toBe('permitted');
  expect(await simulated.untaken('connection')).toEqual([]);
  flow.close();
  expect((await simulated.next('connection-end')).processId).toBe(7);
});

describe('two TCP connections of one process share a local port', () => {
  const local = { address: '192.0.2.10', port: 20 };
  const near = { address: '198.51.100.1', port: 40_001 };
  const far = { address: '198.51.100.2', port: 40_002 };
  const remoteEnds = async (simulated: Simulated): Promise<string[]> =>
    (await simulated.untaken('connection-end')).map((end) => end.remoteAddress);

  test('the end of one leaves a live one as it is', async () => {
    const simulated = await Simulated.start();
    const connect = (remote: typeof near) =>
      simulated.network.connect({ processId: 812, protocol: 'tcp', local, remote });
    const first = connect(near);
    const second = connect(far);
    for (const question of await simulated.questions(2)) question.accept({ permanent: true });
    await Promise.all([first.outcome, second.outcome]);
    first.close();
    expect((await simulated.next('connection-end')).remoteAddress).toBe(near.address);
    expect(await second.send(new Uint8Array(6))).toBe('permitted');
    expect(await second.receive(new Uint8Array(6))).toBe('permitted');
    expect(await remoteEnds(simulated)).toEqual([]);
    second.close();
    expect((await simulated.next('connection-end')).remoteAddress).toBe(far.address);
    expect(await remoteEnds(simulated)).toEqual([]);
  });

  test('the end of one leaves a connect that waits for its verdict as it is', async () => {
    const simulated = await Simulated.start();
    const first = simulated.network.connect({
      processId: 812,
      protocol: 'tcp',
      local,
      remote: near,
    });
    (await simulated.question()).accept({ permanent: true });
    await first.outcome;
    const second = simulated.network.connect({
      processId: 812,
      protocol: 'tcp',
      local,
      remote: far,
    });
    const question = await simulated.question();
    first.close();
    expect((await simulated.next('connection-end')).remoteAddress).toBe(near.address);
    question.accept({ permanent: true });
    expect(await second.outcome).toBe('permitted');
    expect(await second.send(new Uint8Array(6))).toBe('permitted');
    expect(await remoteEnds(simulated)).toEqual([]);
  });

  test('a connect that was refused ends when its socket is closed', async () => {
    const simulated = await Simulated.start();
    const refused = simulated.network.connect({
      processId: 812,
      protocol: 'tcp',
      local,
      remote: near,
    });
    (await simulated.question()).block({ permanent: true });
    expect(await refused.outcome).toBe('blocked');
    refused.close();
    expect((await simulated.next('connection-end')).remoteAddress).toBe(near.address);
  });
});

describe('a permanent block of a live TCP connection', () => {
  const remote = { address: '198.51.100.7', port: 443 };
  const isRst = (packet: Uint8Array): boolean => packet[9] === 6 && (packet[33]! & 0x04) !== 0;

  test('resets it, and both ends learn of it', async () => {
    const simulated = await Simulated.start();
    const wire = new Wire(simulated.network);
    const flow = simulated.network.connect({ processId: 7, protocol: 'tcp', remote });
    const question = await simulated.question();
    question.accept({ permanent: true });
    await flow.outcome;
    expect(await flow.send(new Uint8Array(10))).toBe('permitted');
    simulated.device.updateVerdict(question, Verdict.PermanentBlock);
    await wire.passes('outbound', isRst);
    expect((await simulated.next('connection-end')).remoteAddress).toBe(remote.address);
    expect(await flow.send(new Uint8Array(10))).toBe('blocked');
  });

  test('leaves a UDP connection open, whose packets do not pass', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({ processId: 7, protocol: 'udp', remote });
    const question = await simulated.question();
    question.accept({ permanent: true });
    await flow.outcome;
    simulated.device.updateVerdict(question, Verdict.PermanentBlock);
    expect(await flow.send(new Uint8Array(10))).not.toBe('permitted');
    expect(await simulated.untaken('connection-end')).toEqual([]);
  });
});

describe.each(['tcp', 'udp'] as const)(
  'a temporary block of an outbound %s connection',
  (protocol) => {
    const remote = { address: '198.51.100.7', port: 443 };

    test.each([
      ['block', 'blocked'],
      ['drop', 'dropped'],
    ] as const)(
      'by %s refuses one attempt, and the next one is asked about',
      async (how, outcome) => {
        const simulated = await Simulated.start();
        const local = { address: '192.0.2.10', port: 50_020 };
        const first = simulated.network.connect({ processId: 7, protocol, local, remote });
        (await simulated.question())[how]();
        expect(await first.outcome).toBe(outcome);
        first.close();
        const second = simulated.network.connect({ processId: 7, protocol, local, remote });
        (await simulated.question()).accept({ permanent: true });
        expect(await second.outcome).toBe('permitted');
      },
    );
  },
);
