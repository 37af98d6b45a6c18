/** Sockets of applications: many peers, reused ports, listeners, both ends on one computer. */

import { describe, expect, test } from 'vitest';
import { Simulated, Wire } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.', itself: '127.0.0.1' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::', itself: '::1' },
] as const;

describe.each(families)('over $family', ({ family, computer, stranger, itself }) => {
  const ipVersion = family === 'IPv4' ? 4 : 6;

  test('each peer of one UDP socket is a separate connection, and each end is reported once', async () => {
    const simulated = await Simulated.start();
    const local = { address: computer, port: 50_020 };
    const flows = Array.from({ length: 9 }, (_unused, index) =>
      simulated.network.connect({
        processId: 7,
        protocol: 'udp',
        local,
        remote: { address: `${stranger}${index + 1}`, port: 6881 },
      }),
    );
    const questions = await simulated.questions(flows.length);
    expect(new Set(questions.map((question) => question.remoteAddress)).size).toBe(9);
    for (const question of questions) {
      if (question.remoteAddress.endsWith('3')) question.block({ permanent: true });
      else question.accept({ permanent: true });
    }
    const outcomes = await Promise.all(flows.map((flow) => flow.outcome));
    expect(outcomes.map((outcome) => outcome === 'permitted')).toEqual(
      flows.map((_flow, index) => index !== 2),
    );
    for (const flow of flows) flow.close();
    const ends: string[] = [];
    while (ends.length < flows.length) {
      ends.push((await simulated.next('connection-end')).remoteAddress);
    }
    expect(ends.sort()).toEqual(questions.map((question) => question.remoteAddress).sort());
    expect(await simulated.untaken('connection-end')).toEqual([]);
  });

  test('a datagram to a listening socket is reported with the listening process', async () => {
    const simulated = await Simulated.start();
    simulated.network.listen({ processId: 53, protocol: 'udp', local: { port: 5353 }, ipVersion });
    const flow = simulated.network.accept({
      processId: 53,
      protocol: 'udp',
      local: { address: computer, port: 5353 },
      remote: { address: `${stranger}7`, port: 40_000 },
      payload: new TextEncoder().encode('hello'),
    });
    const question = await simulated.question();
    expect([question.direction, question.processId, question.localPort]).toEqual([
      'inbound',
      53,
      5353,
    ]);
    question.accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
  });

  test('a datagram of a program that sends once and closes is sent once it is permitted', async () => {
    const simulated = await Simulated.start();
    const wire = new Wire(simulated.network);
    const payload = Buffer.from('only once');
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'udp',
      local: { address: computer, port: 50_021 },
      remote: { address: `${stranger}7`, port: 514 },
      payload,
    });
    const question = await simulated.question();
    flow.close();
    question.accept({ permanent: true });
    await wire.passes('outbound', (packet) => Buffer.from(packet).includes(payload));
    const bandwidth = await simulated.device.getBandwidth();
    expect(bandwidth.map(({ transmittedBytes }) => transmittedBytes)).toEqual([9n]);
    expect(await simulated.counted('injectFailures')).toBe(0n);
  });

  test('a listener that closes does not end the connections that it accepted', async () => {
    const simulated = await Simulated.start();
    const listener = simulated.network.listen({
      processId: 80,
      protocol: 'tcp',
      local: { port: 8080 },
      ipVersion,
    });
    const flow = simulated.network.accept({
      processId: 80,
      protocol: 'tcp',
      local: { address: computer, port: 8080 },
      remote: { address: `${stranger}7`, port: 40_000 },
    });
    (await simulated.question()).accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
    listener.close();
    expect(await flow.receive(new Uint8Array(10))).toBe('permitted');
    expect(await simulated.untaken('connection-end')).toEqual([]);
    flow.close();
    expect((await simulated.next('connection-end')).processId).toBe(80);
  });

  test('a process that closes its socket on a shared port ends only its own connections', async () => {
    const simulated = await Simulated.start();
    const sockets = [];
    for (const processId of [7, 8]) {
      const local = { port: 5353 };
      const listener = simulated.network.listen({ processId, protocol: 'udp', local, ipVersion });
      const flow = simulated.network.accept({
        processId,
        protocol: 'udp',
        local: { address: computer, port: 5353 },
        remote: { address: `${stranger}${processId}`, port: 40_000 },
      });
      const question = await simulated.question();
      expect(question.processId).toBe(processId);
      question.accept({ permanent: true });
      expect(await flow.outcome).toBe('permitted');
      sockets.push({ listener, flow });
    }
    const [one, other] = sockets;
    one?.listener.close();
    one?.flow.close();
    expect((await simulated.next('connection-end')).processId).toBe(7);
    expect(await other?.flow.receive(new Uint8Array(10))).toBe('permitted');
    expect(await simulated.untaken('connection')).toEqual([]);
    expect(await simulated.untaken('connection-end')).toEqual([]);
    other?.listener.close();
    other?.flow.close();
    expect((await simulated.next('connection-end')).processId).toBe(8);
  });

  test('a listener without connections closes without an event', async () => {
    const simulated = await Simulated.start();
    const listener = simulated.network.listen({
      processId: 80,
      protocol: 'tcp',
      local: { port: 8080 },
      ipVersion,
    });
    listener.close();
    expect(await simulated.untaken('connection-end')).toEqual([]);
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test('the client is asked each time that another process reuses a port, many times over', async () => {
    const simulated = await Simulated.start();
    const remote = { address: `${stranger}7`, port: 443 };
    for (let processId = 1; processId <= 20; processId++) {
      const local = { address: computer, port: 50_030 };
      const flow = simulated.network.connect({ processId, protocol: 'tcp', local, remote });
      const question = await simulated.question();
      expect(question.processId).toBe(processId);
      question.accept({ permanent: true });
      expect(await flow.outcome).toBe('permitted');
      flow.close();
      expect((await simulated.next('connection-end')).processId).toBe(processId);
    }
  });

  test('the client is asked at both ends of a TCP connection between two programs of this computer', async () => {
    const simulated = await Simulated.start();
    const server = { address: itself, port: 8080 };
    simulated.network.listen({ processId: 80, protocol: 'tcp', local: server });
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'tcp',
      local: { address: itself, port: 50_040 },
      remote: server,
    });
    const atClient = await simulated.question();
    atClient.accept({ permanent: true });
    const atServer = await simulated.question();
    atServer.accept({ permanent: true });
    expect([atClient.direction, atClient.processId, atClient.localPort]).toEqual([
      'outbound',
      7,
      50_040,
    ]);
    expect([atServer.direction, atServer.processId, atServer.localPort]).toEqual([
      'inbound',
      80,
      8080,
    ]);
    expect(await flow.outcome).toBe('permitted');
  });

  test.each(['tcp', 'udp'] as const)(
    'two programs of this computer use %s without a question where the client permits loopback',
    async (protocol) => {
      const simulated = await Simulated.start({ loopback: 'permit' });
      const server = { address: itself, port: 8080 };
      simulated.network.listen({ processId: 80, protocol, local: server });
      const flow = simulated.network.connect({
        processId: 7,
        protocol,
        local: { address: itself, port: 50_040 },
        remote: server,
        ...(protocol === 'udp' ? { payload: new TextEncoder().encode('hello') } : {}),
      });
      expect(await flow.outcome).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
      expect((await simulated.device.getStatistics()).connections).toBe(0n);
    },
  );

  test('a datagram to another program of this computer is asked about only when it is sent, and arrives', async () => {
    const simulated = await Simulated.start();
    const server = { address: itself, port: 5353 };
    simulated.network.listen({ processId: 53, protocol: 'udp', local: server });
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'udp',
      local: { address: itself, port: 50_040 },
      remote: server,
      payload: new TextEncoder().encode('hello'),
    });
    const question = await simulated.question();
    expect([question.direction, question.processId]).toEqual(['outbound', 7]);
    question.accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
    await expect.poll(() => simulated.network.counters().inbound.permitted).toBe(1);
    expect(await simulated.untaken('connection')).toEqual([]);
  });
});
