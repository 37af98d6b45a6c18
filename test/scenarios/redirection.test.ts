/** Packets of a redirected connection on their way to the target, and the target's answers. */

import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Verdict, type SimulatorOptions } from '../../lib/index.js';
import { endsOf, fragmentsOf, ipPacket } from '../support/packets.js';
import { Simulated, Wire } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7', loopback: '127.0.0.1' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7', loopback: '::1' },
] as const;
const protocols = ['tcp', 'udp'] as const;
const verdicts = [
  { name: 'RedirectNameServer', verdict: Verdict.RedirectNameServer, port: 53 },
  { name: 'RedirectTunnel', verdict: Verdict.RedirectTunnel, port: 717 },
  { name: 'RedirectSplitTunnel', verdict: Verdict.RedirectSplitTunnel, port: 719 },
] as const;

const cases = verdicts.flatMap((verdict) =>
  families.flatMap((addresses) =>
    protocols.map((protocol) => ({ ...verdict, ...addresses, protocol })),
  ),
);

const equals =
  (expected: Uint8Array) =>
  (packet: Uint8Array): boolean =>
    Buffer.compare(packet, expected) === 0;

interface End {
  readonly address: string;
  readonly port: number;
}

describe.each(cases)('$name: $protocol over $family', (each) => {
  const { computer, stranger, loopback, protocol, verdict, port } = each;
  const here = verdict === Verdict.RedirectNameServer ? loopback : computer;
  const local: End = { address: computer, port: 50_000 };
  const remote: End = { address: stranger, port: 443 };
  const localThere: End = { address: here, port: 50_000 };
  const target: End = { address: here, port };

  const packet = (from: End, to: End, text = 'text'): Uint8Array =>
    ipPacket({
      source: from.address,
      destination: to.address,
      protocol,
      sourcePort: from.port,
      destinationPort: to.port,
      payload: new TextEncoder().encode(text),
    });

  const first = packet(local, remote, 'first');

  /** A computer on which the verdict on the connection's first packet redirects it. */
  async function redirected(
    options: SimulatorOptions = {},
  ): Promise<{ simulated: Simulated; wire: Wire }> {
    const simulated = await Simulated.start(options);
    const wire = new Wire(simulated.network);
    const outcome = simulated.network.packet(first, 'outbound');
    simulated.device.setVerdict((await simulated.question()).id, verdict);
    expect(await outcome).toMatchObject({ redirectedTo: { address: here } });
    return { simulated, wire };
  }

  test('the held packet goes to the target, rewritten', async () => {
    const { wire } = await redirected();
    await wire.passes('outbound', equals(packet(localThere, target, 'first')));
  });

  test('later packets go to the target without a question', async () => {
    const { simulated, wire } = await redirected();
    expect(await simulated.network.packet(packet(local, remote, 'more'), 'outbound')).toEqual({
      redirectedTo: target,
    });
    await wire.passes('outbound', equals(packet(localThere, target, 'more')));
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test('the answer of the target arrives as if the remote end had sent it', async () => {
    const { simulated, wire } = await redirected();
    const outcome = simulated.network.packet(packet(target, localThere, 'answer'), 'inbound');
    expect(await outcome).toEqual({ redirectedTo: local });
    await wire.passes('inbound', equals(packet(remote, local, 'answer')));
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test('a packet that the remote end itself sends does not arrive', async () => {
    const { simulated } = await redirected();
    expect(await simulated.network.packet(packet(remote, local), 'inbound')).toBe('dropped');
  });

  test('fragments go to the same target as the first one', async () => {
    const { simulated, wire } = await redirected();
    const large = 'x'.repeat(2000);
    for (const fragment of fragmentsOf(packet(local, remote, large), 1000, 7)) {
      expect(await simulated.network.packet(fragment, 'outbound')).toMatchObject({
        redirectedTo: { address: here },
      });
    }
    for (const fragment of fragmentsOf(packet(localThere, target, large), 1000, 7)) {
      await wire.passes('outbound', equals(fragment));
    }
  });

  test('the options set the target ports', async () => {
    const { simulated } = await redirected({
      dnsPort: 5053,
      tunnelPort: 5717,
      splitTunnelPort: 5719,
    });
    expect(await simulated.network.packet(packet(local, remote), 'outbound')).toEqual({
      redirectedTo: { address: here, port: 5000 + port },
    });
  });
});

test('the statistics count redirected packets', async () => {
  const simulated = await Simulated.start();
  const outcome = simulated.network.packet(
    ipPacket({ source: '192.0.2.10', destination: '198.51.100.7', protocol: 'udp' }),
    'outbound',
  );
  (await simulated.question()).redirect('nameserver');
  await outcome;
  expect(await simulated.counted('packetsRedirected')).toBe(1n);
  expect(await simulated.counted('packetsBlocked')).toBe(0n);
});

test('a redirect of a packet without ports drops the packet and writes a log line', async () => {
  const simulated = await Simulated.start({ logLevel: 'error' });
  const echo = ipPacket({ source: '192.0.2.10', destination: '198.51.100.7', protocol: 'icmp' });
  const outcome = simulated.network.packet(echo, 'outbound');
  (await simulated.question()).redirect('tunnel');
  expect(await outcome).toBe('dropped');
  expect(await simulated.device.getLogs()).toContainEqual(
    expect.objectContaining({
      severity: 'error',
      message: expect.stringMatching(/cannot be redirected/) as string,
    }),
  );
});

describe.each(families)('an application over $family', ({ computer, stranger, loopback }) => {
  test('asks a remote resolver over UDP, and the local resolver answers', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'udp',
      local: { address: computer, port: 50_000 },
      remote: { address: stranger, port: 53 },
      payload: new TextEncoder().encode('query'),
    });
    const question = await simulated.question();
    expect(question.processId).toBe(7);
    question.redirect('nameserver');
    expect(await flow.outcome).toEqual({ redirectedTo: { address: loopback, port: 53 } });

    const wire = new Wire(simulated.network);
    expect(await flow.receive(new TextEncoder().encode('answer'))).toBe('permitted');
    await wire.passes('inbound', (arrived) =>
      isDeepStrictEqual(endsOf(arrived), [stranger, 53, computer, 50_000]),
    );
    expect(await simulated.untaken('connection')).toEqual([]);
  });

  test('has its first datagram counted, although it bypasses the layer that counts the others', async () => {
    const simulated = await Simulated.start();
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'udp',
      local: { address: computer, port: 50_000 },
      remote: { address: stranger, port: 53 },
      payload: new TextEncoder().encode('query'),
    });
    (await simulated.question()).redirect('nameserver');
    await flow.outcome;
    await flow.send(new TextEncoder().encode('second query'));
    expect(await simulated.device.getBandwidth()).toEqual([
      expect.objectContaining({ remoteAddress: stranger, remotePort: 53, transmittedBytes: 17n }),
    ]);
  });

  test('connects over TCP to the local tunnel, and closes', async () => {
    const simulated = await Simulated.start();
    simulated.network.listen({
      processId: 9,
      protocol: 'tcp',
      local: { address: computer, port: 717 },
    });
    const flow = simulated.network.connect({
      processId: 7,
      protocol: 'tcp',
      local: { address: computer, port: 50_000 },
      remote: { address: stranger, port: 443 },
    });
    (await simulated.question()).redirect('tunnel');
    await flow.outcome;
    expect(await flow.send(new Uint8Array(5000))).toEqual({
      redirectedTo: { address: computer, port: 717 },
    });
    expect(await flow.receive(new Uint8Array(100))).toBe('permitted');
    flow.close();
    const end = await simulated.next('connection-end');
    expect([end.processId, end.remoteAddress, end.remotePort]).toEqual([7, stranger, 443]);
  });
});
