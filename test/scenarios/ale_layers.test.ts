/** The callouts at ALE_AUTH_CONNECT and ALE_AUTH_RECV_ACCEPT, by the verdict of the connection. */

import { describe, expect, test } from 'vitest';
import { Verdict } from '../../lib/index.js';
import { Simulated } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;

const processId = 4242;

describe.each(families)('ALE_AUTH_CONNECT over $family', ({ computer, stranger }) => {
  const remote = { address: stranger, port: 443 };
  const local = { address: computer, port: 50_001 };

  test.each(['tcp', 'udp'] as const)(
    'a %s connection that is not in the table is held and reported with its process',
    async (protocol) => {
      const simulated = await Simulated.start();
      const flow = simulated.network.connect({ processId, protocol, local, remote });
      const question = await simulated.question();
      expect({
        direction: question.direction,
        processId: question.processId,
        processPath: question.processPath,
        protocolName: question.protocolName,
        localAddress: question.localAddress,
        localPort: question.localPort,
        remoteAddress: question.remoteAddress,
        remotePort: question.remotePort,
        payloadLayer: question.payloadLayer,
      }).toEqual({
        direction: 'outbound',
        processId,
        processPath: expect.stringContaining('4242') as string,
        protocolName: protocol,
        localAddress: computer,
        localPort: 50_001,
        remoteAddress: stranger,
        remotePort: 443,
        payloadLayer: 4,
      });
      expect(simulated.network.counters().outbound.permitted).toBe(0);
      question.accept({ permanent: true });
      expect(await flow.outcome).toBe('permitted');
    },
  );

  test('a held datagram is reported from its transport header on', async () => {
    const simulated = await Simulated.start();
    const payload = new TextEncoder().encode('a question');
    const flow = simulated.network.connect({ processId, protocol: 'udp', remote, payload });
    const question = await simulated.question();
    expect(question.payload.subarray(8)).toEqual(payload);
    question.accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
  });

  test('Accept: the connection is permitted, and the client is asked about its first segment', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
    (await simulated.question()).accept();
    const segment = await simulated.question();
    expect(segment.payloadLayer).toBe(3);
    segment.accept();
    expect(await flow.outcome).toBe('permitted');
  });

  test('PermanentAccept: the connection is permitted without further questions', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
    (await simulated.question()).accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
    expect(await flow.send(new Uint8Array(100))).toBe('permitted');
    expect(await flow.receive(new Uint8Array(100))).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test.each([
    ['Block', 'blocked', Verdict.Block],
    ['Drop', 'dropped', Verdict.Drop],
  ] as const)(
    '%s: this attempt is %s, and the next one is asked about',
    async (_name, outcome, verdict) => {
      const simulated = await Simulated.start();
      for (let attempt = 0; attempt < 2; attempt++) {
        const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
        simulated.device.setVerdict((await simulated.question()).id, verdict);
        expect(await flow.outcome).toBe(outcome);
        flow.close();
      }
      expect(simulated.network.counters().outbound.permitted).toBe(0);
    },
  );

  test.each([
    ['PermanentBlock', Verdict.PermanentBlock],
    ['Undeterminable', Verdict.Undeterminable],
    ['Failed', Verdict.Failed],
  ] as const)('%s: the connection is blocked', async (_name, verdict) => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    expect(await flow.outcome).toBe('blocked');
    expect(simulated.network.counters().outbound.permitted).toBe(0);
  });

  test('PermanentDrop: the connection is dropped silently', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
    (await simulated.question()).drop({ permanent: true });
    expect(await flow.outcome).toBe('dropped');
    expect(simulated.network.counters().outbound.permitted).toBe(0);
  });

  test('a ping is asked about with its process, and its packets follow', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({
      processId,
      protocol: 'icmp',
      local: { address: computer },
      remote: { address: stranger },
    });
    const question = await simulated.question();
    expect([question.payloadLayer, question.localPort, question.remotePort]).toEqual([4, 0, 0]);
    expect(question.processId).toBe(processId);
    question.accept();
    expect(await flow.outcome).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
  });
});

describe.each(families)('ALE_AUTH_RECV_ACCEPT over $family', ({ computer, stranger }) => {
  const local = { address: computer, port: 8080 };
  const remote = { address: stranger, port: 40_000 };

  test.each(['tcp', 'udp'] as const)(
    'a %s connection that is not in the table is held and reported with the listening process',
    async (protocol) => {
      const simulated = await Simulated.start();
      const flow = simulated.network.accept({ processId, protocol, local, remote });
      const question = await simulated.question();
      expect([question.direction, question.processId, question.payloadLayer]).toEqual([
        'inbound',
        processId,
        4,
      ]);
      expect([question.localPort, question.remotePort]).toEqual([8080, 40_000]);
      question.accept({ permanent: true });
      expect(await flow.outcome).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    },
  );

  test.each([
    ['Accept', Verdict.Accept],
    ['PermanentAccept', Verdict.PermanentAccept],
  ] as const)('%s: the inbound connection is permitted', async (_name, verdict) => {
    const simulated = await Simulated.start();
    const flow = simulated.network.accept({ processId, protocol: 'tcp', local, remote });
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    expect(await flow.outcome).toBe('permitted');
  });

  test.each([
    ['Block', Verdict.Block],
    ['Drop', Verdict.Drop],
    ['PermanentBlock', Verdict.PermanentBlock],
    ['PermanentDrop', Verdict.PermanentDrop],
    ['Undeterminable', Verdict.Undeterminable],
    ['Failed', Verdict.Failed],
  ] as const)('%s: the inbound connection is refused', async (_name, verdict) => {
    const simulated = await Simulated.start();
    const flow = simulated.network.accept({ processId, protocol: 'tcp', local, remote });
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    expect(['blocked', 'dropped']).toContain(await flow.outcome);
  });

  test.each([
    ['PermanentBlock', 'blocked', Verdict.PermanentBlock],
    ['PermanentDrop', 'dropped', Verdict.PermanentDrop],
  ] as const)('%s: the next attempt is %s without a question', async (_name, expected, verdict) => {
    const simulated = await Simulated.start();
    const first = simulated.network.accept({ processId, protocol: 'tcp', local, remote });
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    await first.outcome;
    const second = simulated.network.accept({ processId, protocol: 'tcp', local, remote });
    expect(await second.outcome).toBe(expected);
    expect(await simulated.untaken('connection')).toEqual([]);
  });
});
