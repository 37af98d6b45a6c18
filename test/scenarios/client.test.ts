/** The client's view, for every size of its buffers: records, statistics, the log. */

import { describe, expect, test } from 'vitest';
import { Verdict } from '../../lib/index.js';
import { ipPacket } from '../support/packets.js';
import { Simulated } from './simulated.js';

const computer = '192.0.2.10';
const remote = { address: '198.51.100.7', port: 443 };
const HEADERS = 40;

/** A TCP packet of that many bytes; each payload byte encodes its position. */
const packetOf = (bytes: number, sourcePort = 50_000): Uint8Array =>
  ipPacket({
    source: computer,
    destination: remote.address,
    sourcePort,
    destinationPort: remote.port,
    payload: Uint8Array.from({ length: bytes - HEADERS }, (_unused, index) => index % 251),
  });

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe.each([1024, 1499, 65_536])('a client that reads %i bytes at a time', (readBufferSize) => {
  test.each([1, 4])(
    'with %i reads receives packets of every length complete',
    async (readBuffers) => {
      const simulated = await Simulated.start({ readBufferSize, readBuffers });
      const packets = [1500, HEADERS, 1024, 9000, 983, 984, 1500, 65_535].map((length, index) =>
        packetOf(length, 50_000 + index),
      );
      const outcomes = packets.map((packet) => simulated.network.packet(packet, 'outbound'));
      const questions = await simulated.questions(packets.length);
      expect(questions.map((question) => hex(question.payload))).toEqual(packets.map(hex));
      for (const question of questions) question.accept();
      expect(new Set(await Promise.all(outcomes))).toEqual(new Set(['permitted']));
    },
  );
});

test('the payload limit shortens the reported payload, not the sent packet', async () => {
  const simulated = await Simulated.start({ payloadLimit: 100 });
  const sent: Uint8Array[] = [];
  simulated.network.onWire((packet) => sent.push(Uint8Array.from(packet)));
  const outcome = simulated.network.packet(packetOf(1500), 'outbound');
  const question = await simulated.question();
  expect(question.payload).toEqual(packetOf(1500).subarray(0, 100));
  question.accept();
  expect(await outcome).toBe('permitted');
  await expect.poll(() => sent).toEqual([packetOf(1500)]);
});

test('each process is reported with its path, and again when the path changes', async () => {
  const simulated = await Simulated.start();
  const connect = async (processPath: string): Promise<string | undefined> => {
    const flow = simulated.network.connect({ processId: 7, processPath, protocol: 'tcp', remote });
    const question = await simulated.question();
    question.accept({ permanent: true });
    await flow.outcome;
    return question.processPath;
  };
  const [first, second] = ['\\device\\harddiskvolume1\\a.exe', '\\device\\harddiskvolume1\\b.exe'];
  expect([await connect(first), await connect(first), await connect(second)]).toEqual([
    first,
    first,
    second,
  ]);
});

test('a process that is known after the first packet is reported before the next packet', async () => {
  const simulated = await Simulated.start();
  const outcome = simulated.network.packet(packetOf(100), 'outbound');
  const first = await simulated.question();
  expect([first.processId, first.processPath]).toEqual([0, undefined]);
  first.accept();
  await outcome;

  const processPath = '\\device\\harddiskvolume1\\late.exe';
  simulated.network.connect({
    processId: 7,
    processPath,
    protocol: 'tcp',
    local: { address: computer, port: 50_000 },
    remote,
  });
  const second = await simulated.question();
  expect([second.payloadLayer, second.processId, second.processPath]).toEqual([3, 7, processPath]);
  second.accept({ permanent: true });
});

test('the statistics count questions, verdicts, injections and permitted packets', async () => {
  const simulated = await Simulated.start();
  const before = await simulated.device.getStatistics();
  const packets = [1, 2, 3].map((port) =>
    simulated.network.packet(packetOf(100, port), 'outbound'),
  );
  const [accepted, blocked, waiting] = await simulated.questions(packets.length);
  accepted?.accept();
  blocked?.block();
  await Promise.all(packets.slice(0, 2));
  const counted = async (): Promise<Record<string, bigint>> => {
    const after = await simulated.device.getStatistics();
    return {
      queued: after.eventsQueued - before.eventsQueued,
      delivered: after.eventsDelivered - before.eventsDelivered,
      decided: after.verdictsApplied - before.verdictsApplied,
      permitted: after.packetsPermitted - before.packetsPermitted,
      blocked: after.packetsBlocked - before.packetsBlocked,
      injected: after.packetsInjected - before.packetsInjected,
      held: after.packetsHeld - before.packetsHeld,
      connections: after.connections - before.connections,
    };
  };
  // An injection completes shortly after the outcome of its packet.
  await expect.poll(counted).toEqual({
    // A ConnectionInfo comes with each question.
    queued: 6n,
    delivered: 6n,
    decided: 2n,
    permitted: 1n,
    blocked: 1n,
    injected: 1n,
    held: 1n,
    connections: 3n,
  });
  waiting?.accept();
});

describe('the log', () => {
  test.each([
    ['warning', 1],
    ['error', 0],
  ] as const)('at level %s has %i lines about an unknown id', async (logLevel, lines) => {
    const simulated = await Simulated.start({ logLevel });
    simulated.device.setVerdict(999_999n, Verdict.Accept);
    const log = await simulated.device.getLogs();
    expect(log.filter((line) => line.message.includes('999999'))).toHaveLength(lines);
  });

  test('keeps the newest lines, and reports how many were overwritten', async () => {
    const simulated = await Simulated.start();
    const count = 1100;
    await simulated.device.getLogs();
    simulated.device.setVerdicts(
      Array.from({ length: count }, (_unused, index) => [
        BigInt(1_000_000 + index),
        Verdict.Accept,
      ]),
    );
    const lines = await simulated.device.getLogs();
    expect(lines).toHaveLength(1024);
    expect(lines.at(-1)?.message).toContain(String(1_000_000 + count - 1));
    const [entry] = await simulated.device.getLogs();
    expect(entry?.message).toMatch(/\b76 log lines were overwritten/);
  });

  test('receives the entries and bytes of every cache on request', async () => {
    const simulated = await Simulated.start({ logLevel: 'info' });
    const outcome = simulated.network.packet(packetOf(100), 'outbound');
    const question = await simulated.question();
    simulated.device.printMemoryStats();
    const log = (await simulated.device.getLogs()).map((line) => line.message).join('\n');
    for (const cache of [
      'connections: 1 entries',
      'held packets: 1 entries',
      'fragments: 0 entries',
      'refused injections: 0 entries',
      'returning injections: 0 entries',
      'bandwidth: 0 entries',
      'reported processes: 0 entries',
      'event queue: 0 entries',
    ]) {
      expect(log).toMatch(new RegExp(`${cache}, \\d+ bytes`));
    }
    question.accept();
    await outcome;
  });
});
