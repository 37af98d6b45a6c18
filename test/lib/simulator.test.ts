import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ClosedError, InvalidArgumentError } from '../../lib/base/errors.js';
import type { ConnectionEvent } from '../../lib/codec/events.js';
import { Verdict } from '../../lib/codec/verdicts.js';
import type { Device } from '../../lib/device/device.js';
import type { ClientOptions } from '../../lib/device/options.js';
import type { ConnectOptions } from '../../lib/simulator/network_options.js';
import {
  createSimulator,
  type Simulator,
  type SimulatorOptions,
} from '../../lib/simulator/simulator.js';
import { ipPacket } from '../support/packets.js';

const CAPTURE = fileURLToPath(new URL('../../captures/host-traffic.pcap', import.meta.url));
const HTTPS = {
  processId: 42,
  protocol: 'tcp',
  remote: { address: '198.51.100.1', port: 443 },
} as const;

/** A pcapng file of blocks without packets. */
function emptyBlocks(count: number): Uint8Array {
  const section = Buffer.alloc(28);
  section.writeUInt32LE(0x0a0d0d0a, 0);
  section.writeUInt32LE(28, 4);
  section.writeUInt32LE(0x1a2b3c4d, 8);
  section.writeUInt16LE(1, 12);
  section.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 16);
  section.writeUInt32LE(28, 24);
  const block = Buffer.alloc(12);
  block.writeUInt32LE(0xbad, 0);
  block.writeUInt32LE(12, 4);
  block.writeUInt32LE(12, 8);
  return Buffer.concat([section, Buffer.alloc(12 * count, block)]);
}

async function start(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = await createSimulator(options);
  onTestFinished(() => simulator.close());
  return simulator;
}

/** A UDP datagram of three bytes. */
function datagram(
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
): Uint8Array {
  const payload = Uint8Array.of(1, 2, 3);
  return ipPacket({ source, sourcePort, destination, destinationPort, payload, protocol: 'udp' });
}

async function question(device: Device): Promise<ConnectionEvent> {
  for await (const event of device.events({ types: ['connection'] })) return event;
  throw new Error('the device was closed before a connection');
}

/** Gives every connection the same verdict until the device is closed. */
async function decideAll(device: Device, verdict: Verdict): Promise<void> {
  for await (const events of device.batches()) {
    device.setVerdicts(
      events.flatMap((event) =>
        event.type === 'connection' ? [[event.id, verdict] as const] : [],
      ),
    );
  }
}

describe('a flow', () => {
  it.each<[Verdict, string]>([
    [Verdict.PermanentAccept, 'permitted'],
    [Verdict.PermanentBlock, 'blocked'],
    [Verdict.PermanentDrop, 'dropped'],
  ])('with the verdict %i is %s', async (verdict, outcome) => {
    const { device, network } = await start();
    const flow = network.connect(HTTPS);
    device.setVerdict((await question(device)).id, verdict);
    expect(await flow.outcome).toBe(outcome);
  });

  it('is reported with the given endpoints and process', async () => {
    const { device, network } = await start();
    network.connect({
      processId: 0x1234_5678_9abc,
      processPath: '\\device\\harddiskvolume1\\ä.exe',
      protocol: 'udp',
      local: { address: '2001:db8::7', port: 5000 },
      remote: { address: '2001:db8:ffff::1', port: 53 },
      payload: Uint8Array.of(1, 2, 3),
    });
    expect(await question(device)).toMatchObject({
      processId: 0x1234_5678_9abc,
      processPath: '\\device\\harddiskvolume1\\ä.exe',
      direction: 'outbound',
      protocolName: 'udp',
      ipVersion: 6,
      localAddress: '2001:db8::7',
      localPort: 5000,
      remoteAddress: '2001:db8:ffff::1',
      remotePort: 53,
    });
  });

  it('that a remote end opens is inbound', async () => {
    const { device, network } = await start();
    const flow = network.accept({ processId: 8, protocol: 'tcp', local: { port: 80 } });
    const event = await question(device);
    expect(event).toMatchObject({ direction: 'inbound', localPort: 80, processId: 8 });
    event.accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
  });

  it.each([
    ['198.51.100.1', 'icmp'],
    ['2001:db8::1', 'icmpv6'],
  ])('of ICMP to %s is %s', async (address, protocolName) => {
    const { device, network } = await start();
    network.connect({ processId: 4, protocol: 'icmp', remote: { address } });
    expect(await question(device)).toMatchObject({ protocolName, localPort: 0, remotePort: 0 });
  });

  it('gets another free local port each time', async () => {
    const { device, network } = await start();
    network.connect(HTTPS);
    network.connect(HTTPS);
    const [first, second] = [await question(device), await question(device)];
    expect(first.localPort).not.toBe(second.localPort);
  });

  it('sends and receives, is counted, and ends', async () => {
    const { device, network } = await start();
    const flow = network.connect(HTTPS);
    (await question(device)).accept({ permanent: true });
    await flow.outcome;
    expect(await flow.send(new Uint8Array(100))).toBe('permitted');
    expect(await flow.receive(new Uint8Array(3000))).toBe('permitted');
    expect(await device.getBandwidth()).toMatchObject([
      { protocol: 6, remotePort: 443, transmittedBytes: 100n, receivedBytes: 3000n },
    ]);
    flow.close();
    flow.close();
    const { value: end } = await device.events({ types: ['connection-end'] }).next();
    expect(end).toMatchObject({ processId: 42, remotePort: 443 });
  });

  it('without a verdict ends after the computer’s connect timeout', async () => {
    const { device, network, clock } = await start({ clock: 'virtual', stallTimeoutMs: 0 });
    const flow = network.connect(HTTPS);
    await question(device);
    clock.advance(60_000);
    expect(await flow.outcome).toBe('pending-timeout');
  });

  it('gets the timeout verdict, which is reported to the application', async () => {
    const { device, network, clock } = await start({
      clock: 'virtual',
      pendingTimeoutMs: 1000,
      timeoutVerdict: Verdict.PermanentBlock,
    });
    const flow = network.connect(HTTPS);
    const { id } = await question(device);
    clock.advance(2000);
    expect(await flow.outcome).toBe('blocked');
    const { value: timeout } = await device.events({ types: ['timeout'] }).next();
    expect(timeout?.id).toBe(id);
  });
});

describe('the network', () => {
  it.each([0, 255])('connects with protocol %i', async (protocol) => {
    const { network } = await start();
    network.connect({ processId: 1, protocol, remote: { address: '192.0.2.1' } });
    expect(network.counters().flowsTotal).toBe(1);
  });

  it('has listeners', async () => {
    const { device, network } = await start();
    const listener = network.listen({ processId: 9, protocol: 'tcp', local: { port: 8080 } });
    network.accept({ processId: 9, protocol: 'tcp', local: { port: 8080 } });
    expect((await question(device)).processId).toBe(9);
    listener.close();
    listener.close();
  });

  it('delivers a multicast to a socket that joined its group', async () => {
    const { device, network } = await start();
    network.listen({
      processId: 9,
      protocol: 'udp',
      local: { port: 5353 },
      groups: ['224.0.0.251'],
    });
    const outcome = network.arrive(datagram('192.0.2.77', 5353, '224.0.0.251', 5353));
    (await question(device)).accept({ permanent: true });
    expect(await outcome).toBe('permitted');
    expect(network.counters().datagramBytesReceived).toBe(3);
  });

  it('delivers what arrives on a link of the compartment of the socket', async () => {
    const { device, network } = await start();
    network.listen({ processId: 9, protocol: 'udp', local: { port: 53 } });
    const packet = datagram('192.0.2.77', 4000, '192.0.2.10', 53);
    expect(await network.arrive(packet, { link: 2 })).toBe('permitted');
    expect(network.counters().datagramBytesReceived).toBe(0);
    const outcome = network.arrive(packet, { link: 1 });
    expect((await question(device)).processId).toBe(9);
    device.shutdown();
    await outcome;
  });

  it('forwards packets of other computers', async () => {
    const { device, network } = await start();
    const outcome = network.forward(datagram('172.16.0.5', 4000, '198.51.100.1', 53));
    expect((await question(device)).processId).toBe(0);
    device.shutdown();
    expect(await outcome).not.toBe('pending-timeout');
    expect(network.counters().inbound.permitted).toBe(1);
    expect(network.counters().outbound.offered).toBe(1);
  });

  it('sends other ICMP messages than echo requests, and other protocols', async () => {
    const { device, network } = await start();
    const sent: number[][] = [];
    network.onWire((bytes) => sent.push([...bytes.subarray(9, 10), ...bytes.subarray(20, 22)]));
    const remote = { address: '198.51.100.1' };
    network.connect({ processId: 9, protocol: 'icmp', icmp: { type: 13, code: 1 }, remote });
    (await question(device)).accept({ permanent: true });
    const payload = Uint8Array.of(7, 8);
    const flow = network.connect({ processId: 9, protocol: 47, payload, remote });
    (await question(device)).accept({ permanent: true });
    await flow.outcome;
    await expect
      .poll(() => sent)
      .toEqual([
        [1, 13, 1],
        [47, 7, 8],
      ]);
  });

  it('shows permitted packets', async () => {
    const { device, network } = await start();
    const packet = new Promise<[Uint8Array, string]>((resolve) => {
      network.onWire((bytes, direction) => {
        resolve([bytes, direction]);
      });
    });
    network.connect(HTTPS);
    (await question(device)).accept({ permanent: true });
    const [bytes, direction] = await packet;
    expect(direction).toBe('outbound');
    expect([...bytes.subarray(16, 20)]).toEqual([198, 51, 100, 1]);
    network.onWire(null);
  });

  it('counts the packets of each direction and of both', async () => {
    const { device, network } = await start();
    const flow = network.connect(HTTPS);
    (await question(device)).accept({ permanent: true });
    await flow.outcome;
    await flow.receive(Uint8Array.of(1));
    const { permitted, outbound, inbound, flowsNow } = network.counters();
    expect(outbound.permitted).toBeGreaterThan(0);
    expect(inbound.permitted).toBeGreaterThan(0);
    expect(permitted).toBe(outbound.permitted + inbound.permitted);
    expect(flowsNow).toBe(1);
    expect(network.poolBytes()).toBeGreaterThan(0);
  });

  it('accepts raw packets', async () => {
    const { device, network } = await start();
    const echo = ipPacket({ source: '192.0.2.10', destination: '198.51.100.1', protocol: 'icmp' });
    const outcome = network.packet(echo, 'outbound');
    const event = await question(device);
    expect(event).toMatchObject({
      protocolName: 'icmp',
      payloadLayer: 3,
      payloadLength: echo.length,
    });
    event.drop();
    expect(await outcome).toBe('dropped');
  });

  it('blocks packets that cannot be reported for lack of memory, until there is memory', async () => {
    const { device, network } = await start({ failPolicy: 'closed' });
    network.injectFaults(1);
    expect(await network.connect(HTTPS).outcome).toBe('blocked');
    expect(network.counters().injectedFaults).toBeGreaterThan(0);
    network.injectFaults(0);
    const flow = network.connect(HTTPS);
    (await question(device)).accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
  });

  it('makes many connections', async () => {
    const { device, network } = await start();
    const decided = decideAll(device, Verdict.PermanentAccept);
    const load = { connections: 500, protocol: 'udp', ipVersion: 6 } as const;
    expect(await network.load(load)).toMatchObject({ permitted: 500, blocked: 0, dropped: 0 });
    await device.close();
    await decided;
  });

  it.each([
    ['nothing by default', {}, []],
    ['packets without a payload by default', { packetsPerConnection: 2 }, []],
    ['a payload each way', { packetsPerConnection: 2, payloadLength: 700 }, [700n, 700n]],
    ['nothing of the longest payload', { payloadLength: 65_535 }, []],
  ])('makes connections that carry %s', async (_, packets, bytes) => {
    const { device, network } = await start();
    const decided = decideAll(device, Verdict.PermanentAccept);
    expect(await network.load({ connections: 1, ...packets })).toMatchObject({ permitted: 1 });
    const carried = (await device.getBandwidth()).flatMap(({ transmittedBytes, receivedBytes }) => [
      transmittedBytes,
      receivedBytes,
    ]);
    expect(carried).toEqual(bytes);
    await device.close();
    await decided;
  });

  it('replays a capture', async () => {
    const { device, network } = await start({ payloadLimit: 0 });
    const decided = decideAll(device, Verdict.PermanentAccept);
    let totalBytes = 0;
    const summary = await network.replay(CAPTURE, {
      local: ['10.77.0.2', 'fd77::2'],
      onProgress: (progress) => {
        totalBytes = progress.totalBytes;
      },
    });
    expect(summary.frames).toBeGreaterThan(0);
    expect(summary.tcpConversations).toBeGreaterThan(0);
    expect(summary.warning).toBe('');
    expect(totalBytes).toBeGreaterThan(summary.bytes);
    await device.close();
    await decided;
  });

  it('writes a replay to a capture and shows its packets', async () => {
    const { device, network } = await start({ payloadLimit: 0 });
    const folder = mkdtempSync(join(tmpdir(), 'netverdict-replay-'));
    onTestFinished(() => {
      rmSync(folder, { recursive: true, force: true });
    });
    const writeOut = join(folder, 'out.pcapng');
    const decided = decideAll(device, Verdict.PermanentAccept);
    const shown: Uint8Array[] = [];
    network.onWire((bytes) => shown.push(bytes));
    await network.replay(CAPTURE, { writeOut });
    await device.close();
    await decided;
    const written = readFileSync(writeOut);
    expect(shown.length).toBeGreaterThan(2000);
    expect(shown.every((packet) => written.includes(Buffer.from(packet)))).toBe(true);
  });

  it('stops a replay when its signal is aborted, and rejects with the reason', async () => {
    const { network } = await start();
    const controller = new AbortController();
    const replay = network.replay(CAPTURE, { signal: controller.signal });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(replay).rejects.toBe(reason);
    await expect(network.replay(CAPTURE, { signal: controller.signal })).rejects.toBe(reason);
  });

  it.each(['abort', 'close'] as const)(
    'ends a replay on %s within 100 ms also among blocks that are no packets',
    async (how) => {
      const simulator = await start();
      const folder = mkdtempSync(join(tmpdir(), 'netverdict-replay-'));
      onTestFinished(() => {
        rmSync(folder, { recursive: true, force: true });
      });
      const capture = join(folder, 'blocks.pcapng');
      writeFileSync(capture, emptyBlocks(2_000_000));
      const controller = new AbortController();
      const replay = simulator.network.replay(capture, { signal: controller.signal });
      const settled = replay.then(
        () => 'resolved',
        () => 'rejected',
      );
      await new Promise((resolve) => setImmediate(resolve));
      const before = process.cpuUsage();
      if (how === 'abort') controller.abort();
      else await simulator.close();
      expect(await settled).toBe(how === 'abort' ? 'rejected' : 'resolved');
      const { user, system } = process.cpuUsage(before);
      expect(user + system).toBeLessThan(100_000);
    },
  );

  it('refuses pipes, whose other end it would wait for', async () => {
    const { network } = await start();
    const folder = mkdtempSync(join(tmpdir(), 'netverdict-replay-'));
    onTestFinished(() => {
      rmSync(folder, { recursive: true, force: true });
    });
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expect(network.replay(pipe)).rejects.toThrow(/not a regular file/);
    await expect(network.replay(CAPTURE, { writeOut: pipe })).rejects.toThrow(/is a pipe/);
  });

  it('names a file that cannot be replayed', async () => {
    const { network } = await start();
    await expect(network.replay('/nowhere/none.pcap')).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_INVALID_ARGUMENT',
      message: expect.stringContaining('/nowhere/none.pcap') as string,
    });
  });
});

describe('a virtual clock', () => {
  it.each([-1, NaN, 604_800_001, 9.3e12, 2 ** 53, Infinity])(
    'refuses to advance by %d ms',
    async (step) => {
      const { clock } = await start({ clock: 'virtual' });
      const advance = () => {
        clock.advance(step);
      };
      expect(advance).toThrow(InvalidArgumentError);
      expect(advance).toThrow(/^advance\(\): /);
    },
  );

  it('advances by nothing, and by a week', async () => {
    const { clock } = await start({ clock: 'virtual' });
    clock.advance(0);
    clock.advance(604_800_000);
  });
});

describe('invalid options', () => {
  it.each<[string, object, RegExp]>([
    ['no protocol', { processId: 1, remote: HTTPS.remote }, /protocol/],
    ['an unknown protocol', { ...HTTPS, protocol: 'sctp' }, /protocol/],
    ['no remote port', { ...HTTPS, remote: { address: '192.0.2.1' } }, /remote port is missing/],
    [
      'an invalid address',
      { ...HTTPS, remote: { address: 'x', port: 1 } },
      /remote.address: 'x' is not/,
    ],
    ['two IP versions', { ...HTTPS, local: { address: '::1' } }, /not of one IP version/],
    ['an invalid process id', { ...HTTPS, processId: -1 }, /processId/],
    ['a payload of text', { ...HTTPS, payload: 'x' }, /payload: must be a Uint8Array/],
    ['an unknown option', { ...HTTPS, remotePort: 1 }, /remotePort/],
  ])('of connect(): %s', async (_, options, message) => {
    const { network } = await start();
    expect(() => network.connect(options as ConnectOptions)).toThrow(message);
    expect(network.counters().flowsTotal).toBe(0);
  });

  it('of the other methods are named too', async () => {
    const { network, clock } = await start();
    const tcp = { processId: 1, protocol: 'tcp' } as const;
    expect(() => network.accept({ ...tcp, local: {} })).toThrow(/local port/);
    expect(() => network.listen({ ...tcp, local: { port: 0 } })).toThrow(/port/);
    expect(() => network.listen({ ...tcp, local: { port: 65_536 } })).toThrow(/port/);
    expect(() => {
      clock.advance(1);
    }).toThrow(/clock: 'virtual'/);
    expect(() => {
      network.injectFaults(-1);
    }).toThrow(/oneIn/);
    expect(() => {
      network.onWire(undefined as unknown as null);
    }).toThrow(/onWire\(\): must be a function or null/);
    const packet = new Uint8Array(20);
    expect(() => network.arrive(packet, { link: 3 as 2 })).toThrow(/link/);
    expect(() => network.forward('x' as unknown as Uint8Array)).toThrow(/bytes of forward/);
    const remote = { address: '192.0.2.1' };
    expect(() => network.connect({ processId: 1, protocol: 256, remote })).toThrow(/protocol/);
    expect(() => network.listen({ ...tcp, local: { port: 1 }, groups: ['x'] })).toThrow(/groups/);
    await expect(network.load({ connections: 0 })).rejects.toThrow(/connections/);
    const tooMany = { connections: 1, inFlight: 1_048_577 };
    await expect(network.load(tooMany)).rejects.toThrow(/inFlight/);
    const tooLong = { connections: 1, payloadLength: 65_536 };
    await expect(network.load(tooLong)).rejects.toThrow(/payloadLength/);
    await expect(network.replay('x', { speed: -1 })).rejects.toThrow(/speed/);
    await expect(createSimulator({ clock: 'fast' as 'real' })).rejects.toThrow(/clock/);
  });
});

describe('the device', () => {
  it('may be closed and opened again while the network runs on', async () => {
    const simulator = await start({ failPolicy: 'closed' });
    const { device, network } = simulator;
    const wire = network.connect(HTTPS);
    (await question(device)).accept({ permanent: true });
    await wire.outcome;
    await device.close();
    expect(device.closed).toBe(true);
    expect(await network.connect(HTTPS).outcome).toBe('blocked');
    const next = await simulator.open();
    expect(next).not.toBe(device);
    const flow = network.connect(HTTPS);
    (await question(next)).accept({ permanent: true });
    expect(await flow.outcome).toBe('permitted');
    expect(network.counters().flowsTotal).toBe(3);
  });

  it('is busy while it is open, also for two concurrent calls', async () => {
    const simulator = await start();
    await expect(simulator.open()).rejects.toThrow(/another client has the device open/);
    await simulator.device.close();
    const opened = await Promise.allSettled([simulator.open(), simulator.open()]);
    expect(opened.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(opened[1]).toMatchObject({ reason: { code: 'ERR_NETVERDICT_BUSY' } });
  });

  it('refuses invalid options, and options of the computer', async () => {
    const simulator = await start();
    await simulator.device.close();
    const elsewhere = { backend: 'windows' } as unknown as ClientOptions;
    await expect(simulator.open({ readBuffers: 0 })).rejects.toThrow(/readBuffers/);
    await expect(simulator.open(elsewhere)).rejects.toThrow(/backend/);
    expect(await (await simulator.open()).getLogs()).toEqual([]);
  });

  it('is closed by the signal that was given when it was opened', async () => {
    const simulator = await start();
    await simulator.device.close();
    const reason = new Error('enough');
    await expect(simulator.open({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const next = (await simulator.open({ signal: controller.signal })).events().next();
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
    expect((await simulator.open()).closed).toBe(false);
  });
});

describe('a closed simulator', () => {
  it('has dropped everything in transit', async () => {
    const simulator = await createSimulator({ loopback: 'ask' });
    const { device, network } = simulator;
    const server = { address: '127.0.0.1', port: 8080 };
    network.listen({ processId: 1, protocol: 'tcp', local: server });
    const client = network.connect({ processId: 2, protocol: 'tcp', remote: server });
    const sent = client.send(Buffer.from('waits for the connection'));
    for await (const event of device.events({ types: ['connection'] })) {
      if (event.localPort === server.port) {
        event.block(); // it answers nothing
        break;
      }
      event.accept();
    }
    await simulator.close();
    expect(await client.outcome).toBe('permitted');
    expect(await sent).toBe('dropped');
  });

  it('ends even if every driver call fails', async () => {
    const simulator = await createSimulator();
    const { outcome } = simulator.network.connect(HTTPS);
    simulator.network.injectFaults(1);
    await simulator.close();
    expect(await outcome).toBe('permitted'); // by the fail policy
  });

  it('may be closed again, and after its device was closed', async () => {
    const simulator = await createSimulator();
    await Promise.all([simulator.close(), simulator.device.close(), simulator.close()]);
    await simulator.close();
    const other = await createSimulator();
    await other.device.close();
    await other.close();
    expect(() => other.network.counters()).toThrow(ClosedError);
  });

  it('writes the verdicts of the last turn before it closes', async () => {
    const simulator = await createSimulator();
    const flow = simulator.network.connect(HTTPS);
    (await question(simulator.device)).block({ permanent: true });
    await simulator.close();
    expect(await flow.outcome).toBe('blocked');
  });

  it('refuses calls to its network, except those that end things', async () => {
    const simulator = await createSimulator();
    const { device, network } = simulator;
    const flow = network.connect(HTTPS);
    const listener = network.listen({ processId: 1, protocol: 'udp', local: { port: 53 } });
    (await question(device)).accept({ permanent: true });
    await flow.outcome;
    await simulator.close();
    flow.close();
    listener.close();
    const closed = { code: 'ERR_NETVERDICT_CLOSED' };
    expect(() => network.connect(HTTPS)).toThrow(expect.objectContaining(closed) as Error);
    expect(() => network.counters()).toThrow(expect.objectContaining(closed) as Error);
    await expect(flow.send(Uint8Array.of(1))).rejects.toMatchObject(closed);
  });

  it('has closed the last opened device, and opens no other', async () => {
    const simulator = await createSimulator();
    await simulator.device.close();
    const device = await simulator.open();
    const waiting = device.events().next();
    const answer = device.getLogs();
    const closed = simulator.close();
    expect(device.closed).toBe(true);
    await expect(answer).rejects.toBeInstanceOf(ClosedError);
    expect((await waiting).done).toBe(true);
    await expect(simulator.open()).rejects.toBeInstanceOf(ClosedError);
    await closed;
    await expect(simulator.open()).rejects.toThrow(/simulator is closed/);
    await expect(device.getStatistics()).rejects.toBeInstanceOf(ClosedError);
  });

  it.each(['open', 'closed'] as const)(
    'refuses a device that was being opened while the previous one was %s',
    async (state) => {
      const simulator = await createSimulator();
      if (state === 'closed') await simulator.device.close();
      else void simulator.device.close();
      const opening = simulator.open();
      const closed = simulator.close();
      await expect(opening).rejects.toBeInstanceOf(ClosedError);
      await closed;
    },
  );

  it('has decided waiting connections by the fail policy', async () => {
    const simulator = await createSimulator({ failPolicy: 'closed' });
    const flow = simulator.network.connect(HTTPS);
    await question(simulator.device);
    await simulator.close();
    expect(await flow.outcome).not.toBe('permitted');
  });

  it('results from the end of an await using block', async () => {
    const device = await (async () => {
      await using simulator = await createSimulator();
      return simulator.device;
    })();
    expect(device.closed).toBe(true);
  });
});

describe('the driver’s log', () => {
  it('is available to getLogs, with and without an iterator', async () => {
    const { device } = await start({ logLevel: 'info' });
    device.printMemoryStats();
    const lines = await device.getLogs();
    expect(lines.length).toBeGreaterThan(0);
    expect(lines[0]).toMatchObject({ severity: 'info' });
    const decided = decideAll(device, Verdict.Accept);
    device.printMemoryStats();
    expect(await device.getLogs()).not.toEqual([]);
    await device.close();
    await decided;
  });
});

describe('shutdown', () => {
  it('ends the iterators and releases waiting connections', async () => {
    const { device, network } = await start();
    const flow = network.connect(HTTPS);
    await question(device);
    device.shutdown();
    for await (const event of device) {
      expect(event.type).not.toBe('connection');
    }
    expect(await flow.outcome).toBe('permitted');
    await expect(device.getLogs()).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_DRIVER_SHUTDOWN',
    });
  });
});
