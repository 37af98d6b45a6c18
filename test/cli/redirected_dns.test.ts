/** A replay whose DNS goes to the local resolver, which answers as the captured servers did. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipPacket } from '../support/packets.js';
import { CaptureFolder, rawCapture } from './captures.js';
import { conversationsOfReplay } from './conversations.js';
import { bundledCapture, bundledLocal, replayJson, type JsonLine } from './run_cli.js';
import { WRONG_CHECKSUM, dissect } from './tshark.js';

const FIELDS = [
  ...['ip.src', 'ipv6.src', 'ip.dst', 'ipv6.dst'],
  ...['udp.srcport', 'tcp.srcport', 'udp.dstport', 'tcp.dstport'],
  ...['tcp.flags', 'tcp.seq_raw', 'tcp.ack_raw', 'udp.payload', 'tcp.payload'],
];

type Packet = Readonly<Record<string, string>>;

const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

function packets(capture: string, filter: string): Packet[] {
  return dissect(capture, filter, FIELDS);
}

/** Sorts the packets, because other packets overtake those that wait for a verdict. */
function sorted(list: readonly Packet[]): string[] {
  return list.map((packet) => JSON.stringify(packet)).sort();
}

function atLoopback(packet: Packet): Packet {
  const [v4, v6] = packet['ip.src'] === '' ? ['', '::1'] : ['127.0.0.1', ''];
  return { ...packet, 'ip.src': v4, 'ip.dst': v4, 'ipv6.src': v6, 'ipv6.dst': v6 };
}

const TO_SERVER = '(udp.dstport == 53 || tcp.dstport == 53)';
const FROM_SERVER = '(udp.srcport == 53 || tcp.srcport == 53)';
const AT_LOOPBACK = '(ip.dst == 127.0.0.1 || ipv6.dst == ::1)';
const on = (name: string): string => `frame.interface_name == "${name}"`;

describe('a replay with DNS redirected to the resolver', () => {
  const file = folder.file('dns.pcapng');
  let lines: JsonLine[];

  beforeAll(async () => {
    const options = ['--policy', 'examples/dns-policy.json', '--write-out', file];
    lines = await replayJson(bundledCapture, ...bundledLocal, ...options);
  });

  it('sends every query to the resolver, UDP and TCP, IPv4 and IPv6', () => {
    const captured = packets(bundledCapture, TO_SERVER);
    const isUdp = (packet: Packet): boolean => packet['udp.dstport'] === '53';
    expect(captured.filter((packet) => isUdp(packet) && packet['ip.src'] !== '')).toHaveLength(3);
    expect(captured.filter((packet) => isUdp(packet) && packet['ipv6.src'] !== '')).toHaveLength(3);
    expect(captured.filter((packet) => !isUdp(packet)).length).toBeGreaterThan(3);

    const sent = sorted(captured.map(atLoopback));
    expect(sorted(packets(file, `${on('loopback')} && ${TO_SERVER}`))).toEqual(sent);
    expect(sorted(packets(file, `${on('delivered')} && ${TO_SERVER}`))).toEqual(sent);
  });

  it('sends no query to the network', () => {
    expect(packets(file, `${on('network')} && (${TO_SERVER} || ${FROM_SERVER})`)).toEqual([]);
  });

  it('lets the resolver answer from its own address and port', () => {
    const captured = packets(bundledCapture, FROM_SERVER);
    expect(sorted(packets(file, `${on('loopback')} && ${FROM_SERVER} && ${AT_LOOPBACK}`))).toEqual(
      sorted(captured.map(atLoopback)),
    );
  });

  it('delivers every answer with the address of the queried server', () => {
    expect(sorted(packets(file, `${on('delivered')} && ${FROM_SERVER}`))).toEqual(
      sorted(packets(bundledCapture, FROM_SERVER)),
    );
  });

  it('has right checksums', () => {
    const good = 'udp.checksum.status == "Good" || tcp.checksum.status == "Good"';
    const dns = `${TO_SERVER} || ${FROM_SERVER}`;
    expect(packets(file, `(${dns}) && (${good})`)).toHaveLength(packets(file, dns).length);
    expect(packets(file, WRONG_CHECKSUM)).toEqual([]);
  });

  it('changes no conversation and no payload', async () => {
    const accepted = await replayJson(bundledCapture, ...bundledLocal);
    expect(conversationsOfReplay(lines)).toEqual(conversationsOfReplay(accepted));
    expect(lines.at(-1)).toMatchObject({ packets: { blocked: 0 }, lost: 0 });
  });
});

it('an answer to a query that the resolver did not get comes from the network, and is not delivered', async () => {
  const local = { address: '192.0.2.10', port: 50_000 };
  const server = { address: '198.51.100.53', port: 53 };
  const message = (source: typeof local, destination: typeof local, id: number): Uint8Array =>
    ipPacket({
      source: source.address,
      sourcePort: source.port,
      destination: destination.address,
      destinationPort: destination.port,
      protocol: 'udp',
      payload: Uint8Array.of(0, id, 1, 2, 3),
    });
  const capture = folder.write(
    'unasked.pcap',
    rawCapture(
      message(local, server, 1),
      message(server, local, 2),
      message(server, local, 1),
      message(local, server, 2),
    ),
  );
  const file = folder.file('unasked.pcapng');
  const options = ['--policy', 'examples/dns-policy.json', '--write-out', file];
  const lines = await replayJson(capture, '--local', local.address, ...options);
  expect(
    packets(file, `${on('delivered')} && ${FROM_SERVER}`).map((packet) => packet['udp.payload']),
  ).toEqual(['0001010203']);
  expect(lines.at(-1)).toMatchObject({ packets: { blocked: 1 } });
});

it('a replay through the tunnel delivers the bytes that the remote ends sent', async () => {
  const policy = folder.write(
    'tunnel.json',
    JSON.stringify({
      rules: [{ protocol: 'tcp', remote: { port: 80 }, verdict: 'redirect-tunnel' }],
      default: 'permanent-accept',
    }),
  );
  const file = folder.file('tunnel.pcapng');
  await replayJson(bundledCapture, ...bundledLocal, '--policy', policy, '--write-out', file);
  const captured = packets(bundledCapture, 'tcp.srcport == 80');
  expect(captured.length).toBeGreaterThan(100);
  expect(sorted(packets(file, `${on('delivered')} && tcp.srcport == 80`))).toEqual(
    sorted(captured),
  );
  expect(packets(file, `${on('loopback')} && tcp.dstport == 717`)).toHaveLength(
    packets(bundledCapture, 'tcp.dstport == 80').length,
  );
  expect(packets(file, `${on('network')} && tcp.dstport == 80`)).toEqual([]);
});
