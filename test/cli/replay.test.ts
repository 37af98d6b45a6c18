import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CaptureFolder, rawCapture, tcpConversation } from './captures.js';
import { conversationsOfReplay } from './conversations.js';
import {
  bundledCapture,
  bundledLocal,
  parseJsonLines,
  replayJson,
  root,
  runCli,
  startCli,
  type JsonLine,
} from './run_cli.js';
import { CONTROL_TRAFFIC, dissect } from './tshark.js';

const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

const captures = join(root, 'test', 'captures');
const fragments = join(captures, 'inbound-fragments.pcap');
const shortDatagram = join(captures, 'udp-with-trailing-bytes.pcap');
const receiver = ['--local', '192.0.2.10'];
const samplePolicy = ['--policy', 'examples/policy.json'];

function connections(lines: readonly JsonLine[]): JsonLine[] {
  return lines.filter((line) => line.type === 'connection');
}

function summary(lines: readonly JsonLine[]): JsonLine {
  return lines.at(-1)!;
}

describe('netverdict replay', () => {
  it('prints every field of an event of the API, without payload', async () => {
    const lines = connections(await replayJson(bundledCapture, ...bundledLocal));
    const download = lines.find((line) => line['localPort'] === 40_672);
    expect(download).toEqual({
      type: 'connection',
      id: expect.stringMatching(/^\d+$/) as string,
      processId: expect.any(Number) as number,
      processStart: expect.any(Number) as number,
      direction: 'outbound',
      protocol: 6,
      protocolName: 'tcp',
      ipVersion: 4,
      localAddress: '10.77.0.2',
      localPort: 40_672,
      remoteAddress: '10.77.0.1',
      remotePort: 80,
      payloadLayer: 4,
      loopback: false,
      time: expect.any(Number) as number,
    });
  });

  it('prints the payload as base64 on request', async () => {
    const lines = connections(await replayJson(bundledCapture, ...bundledLocal, '--payload'));
    const datagrams = lines.filter((line) => line['protocol'] === 17 && line['remotePort'] === 53);
    expect(datagrams.length).toBeGreaterThan(0);
    for (const { payload } of datagrams) {
      expect(Buffer.from(payload as string, 'base64').length).toBeGreaterThan(8);
    }
  });

  it('blocks the traffic that the sample policy blocks, and permits none of it', async () => {
    const all = conversationsOfReplay(await replayJson(bundledCapture, ...bundledLocal));
    const lines = await replayJson(bundledCapture, ...bundledLocal, ...samplePolicy);
    const decided = conversationsOfReplay(lines);
    const isBlocked = (key: string): boolean =>
      /^tcp .* 10\.77\.0\.1:9999$/.test(key) || /^udp .*:5201$/.test(key);
    const blocked = [...all.keys()].filter(isBlocked);
    expect(blocked.length).toBeGreaterThan(0);
    for (const [key, conversation] of all) {
      const expected = isBlocked(key) ? { transmitted: 0, received: 0 } : conversation;
      expect(decided.get(key), key).toMatchObject({
        transmitted: expected.transmitted,
        received: expected.received,
      });
    }
    expect(summary(lines)['verdicts']).toMatchObject({ PermanentBlock: blocked.length });
  });

  it('keeps connections that use one local port one after the other apart', async () => {
    const local = { address: '192.0.2.10', port: 20 };
    const conversation = (port: number, length: number): Uint8Array[] =>
      tcpConversation(local, { address: '198.51.100.7', port }, length);
    const capture = folder.write(
      'same-local-port.pcap',
      rawCapture(
        ...conversation(40_001, 100),
        ...conversation(40_002, 200),
        ...conversation(40_003, 400),
      ),
    );
    const lines = await replayJson(capture, '--local', local.address);
    expect(connections(lines)).toHaveLength(3);
    expect(lines.filter((line) => line.type === 'connection-end')).toHaveLength(3);
    const sent = [...conversationsOfReplay(lines).values()].map(({ transmitted }) => transmitted);
    expect(sent.map(Number).sort((a, b) => a - b)).toEqual([100, 200, 400]);
    expect(summary(lines)).toMatchObject({ packets: { permitted: 24, blocked: 0 } });
  });

  it('permits only control traffic when everything is blocked', async () => {
    const policy = folder.write('block.json', '{"default": "permanent-block"}');
    const lines = await replayJson(bundledCapture, ...bundledLocal, '--policy', policy);
    expect(summary(lines)).toMatchObject({
      packets: { permitted: dissect(bundledCapture, CONTROL_TRAFFIC, ['frame.number']).length },
      bandwidth: {
        tcp: { v4: { tx: 0, rx: 0 }, v6: { tx: 0, rx: 0 } },
        udp: { v4: { tx: 0, rx: 0 }, v6: { tx: 0, rx: 0 } },
      },
    });
  });

  it('asks about each packet when verdicts are temporary, and counts each connection once', async () => {
    const policy = folder.write('accept.json', '{"default": "accept"}');
    const lines = await replayJson(bundledCapture, ...bundledLocal, '--policy', policy);
    const events = connections(lines);
    expect(events.length).toBeGreaterThan(1000);
    expect(summary(lines)).toMatchObject({
      connections: { tcp: 51, udp: 7 },
      verdicts: { Accept: events.length },
      lost: 0,
    });
  });

  it('prints one line per connection, and tables, for people', async () => {
    const result = await runCli('replay', bundledCapture, ...bundledLocal, ...samplePolicy);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(
      /^PermanentBlock +outbound +tcp +process \d+ .* 10\.77\.0\.2:\d+ +→ 10\.77\.0\.1:9999$/m,
    );
    expect(result.stdout).toMatch(/TCP connections +│ +51 /);
    expect(result.stdout).toMatch(/UDP connections +│ +7 /);
    expect(result.stdout).toMatch(/events lost +│ +0 /);
    expect(result.stdout).not.toContain('\x1b');
  });

  it('asks once about datagrams that come only in fragments, and lets in none that are refused', async () => {
    const everything = folder.file('let-in.pcapng');
    const nothing = folder.file('refused.pcapng');
    const policy = folder.write('refuse.json', '{"default": "permanent-block"}');
    const accepted = await replayJson(fragments, ...receiver, '--write-out', everything);
    const refused = await replayJson(
      fragments,
      ...receiver,
      '--policy',
      policy,
      '--write-out',
      nothing,
    );
    for (const lines of [accepted, refused]) {
      expect(connections(lines)).toEqual([
        expect.objectContaining({
          direction: 'inbound',
          protocolName: 'udp',
          localAddress: '192.0.2.10',
          localPort: 5001,
          remoteAddress: '198.51.100.7',
          remotePort: 5000,
          payloadLayer: 4,
        }),
      ]);
      expect(connections(lines)[0]!['processId']).not.toBe(0);
    }
    expect(summary(accepted)).toMatchObject({ bandwidth: { udp: { v4: { tx: 0, rx: 28_000 } } } });
    expect(summary(refused)).toMatchObject({
      verdicts: { PermanentBlock: 1 },
      bandwidth: { udp: { v4: { tx: 0, rx: 0 } } },
    });
    expect(dissect(everything, 'ip', ['frame.number'])).toHaveLength(20);
    expect(dissect(nothing, 'ip', ['frame.number'])).toHaveLength(0);
  });

  it('lets in a datagram that is shorter than its packet, and counts its own length', async () => {
    expect(summary(await replayJson(shortDatagram, ...receiver))).toMatchObject({
      packets: { permitted: 1, blocked: 0 },
      bandwidth: { udp: { v4: { tx: 0, rx: 64 } } },
    });
  });

  it('replays at a multiple of the captured speed', async () => {
    const result = await runCli('replay', bundledCapture, ...bundledLocal, '--speed', '1000');
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/TCP connections +│ +51 /);
  });

  it('replays the complete packets of a truncated capture, reports the cut, and exits with 2', async () => {
    const file = folder.truncated('truncated.pcap', 1_000_003);
    const result = await runCli('replay', file, ...bundledLocal, '--json');
    expect(result.code).toBe(2);
    expect(summary(parseJsonLines(result.stdout))).toMatchObject({ type: 'summary', lost: 0 });
    expect(result.stderr).toMatch(/truncated\.pcap/);
  });

  it('on Ctrl-C prints the results so far, and exits with 130', async () => {
    const child = startCli('replay', bundledCapture, ...bundledLocal, '--json', '--speed', '2');
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (stdout === '') child.kill('SIGINT');
      stdout += text;
    });
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(130);
    expect(summary(parseJsonLines(stdout)).type).toBe('summary');
  });

  it('ends without an error when its reader closes the pipe', async () => {
    const policy = folder.write('chatty.json', '{"default": "accept"}');
    const child = startCli('replay', bundledCapture, '--json', '--policy', policy);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdout.once('data', () => {
      child.stdout.destroy();
    });
    const [code] = (await once(child, 'close')) as [number];
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });
});

describe('a broken policy file', () => {
  const broken: [string, string, RegExp][] = [
    ['no JSON', '{"rules": [', /not JSON/],
    ['an empty file', '', /not JSON/],
    ['no object', '[]', /must be an object/],
    ['no default', '{"rules": []}', /default/],
    [
      'an unknown verdict',
      '{"rules": [{"name": "telnet", "verdict": "blokc"}], "default": "drop"}',
      /rules\[0\].*telnet.*blokc/,
    ],
    [
      'an unknown field',
      '{"rules": [{"verdict": "drop"}, {"remot": {}, "verdict": "drop"}], "default": "drop"}',
      /rules\[1\].*remot/,
    ],
    [
      'a port that is none',
      '{"rules": [{"remote": {"port": 70000}, "verdict": "drop"}], "default": "drop"}',
      /rules\[0\].*port.*70000/,
    ],
    [
      'a range the wrong way round',
      '{"rules": [{"remote": {"port": "90-80"}, "verdict": "drop"}], "default": "drop"}',
      /rules\[0\].*90-80/,
    ],
    [
      'an address that is none',
      '{"rules": [{"local": {"address": "10.0.0/8"}, "verdict": "drop"}], "default": "drop"}',
      /rules\[0\].*10\.0\.0/,
    ],
  ];
  it.each(broken)('%s: exits with 2 and names the place', async (name, text, message) => {
    const file = folder.write(`${name}.json`, text);
    const result = await runCli('replay', bundledCapture, '--policy', file);
    expect(result.code).toBe(2);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toContain(`${name}.json`);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });
});

describe('a file that is not a capture', () => {
  const header = readFileSync(bundledCapture).subarray(0, 24);
  const pcapng = Buffer.from('0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000', 'hex');
  const files: [string, Uint8Array][] = [
    ['empty', Buffer.alloc(0)],
    ['one byte', Buffer.of(0xd4)],
    ['half a header', header.subarray(0, 11)],
    ['random bytes', Buffer.from('7f3a9c5be0142d88a1f6c3721905be4d'.repeat(64), 'hex')],
    ['a frame of 4 GiB', Buffer.concat([header, Buffer.alloc(16, 0xff)])],
    [
      'an unknown link type',
      Buffer.concat([
        header.subarray(0, 20),
        Buffer.of(0xe7, 0x03, 0, 0),
        Buffer.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x45),
      ]),
    ],
    ['half a pcapng block', pcapng.subarray(0, 20)],
    ['a pcapng block of length 0', Buffer.concat([pcapng, Buffer.from('0600000000000000', 'hex')])],
  ];
  it.each(files)('%s: exits with 2 and a reason', async (name, bytes) => {
    const file = folder.write(`${name}.pcap`, bytes);
    const result = await runCli('replay', file, '--json');
    expect(result.code).toBe(2);
    expect(result.stderr).toContain(`${name}.pcap`);
    expect(result.stderr).not.toMatch(/\n\s+at |BUGCHECK/);
  });

  it.each([
    ['pcap', header],
    ['pcapng', pcapng],
  ])('a %s without frames has an empty summary', async (format, bytes) => {
    const lines = await replayJson(folder.write(`none.${format}`, bytes));
    expect(summary(lines)).toEqual({
      type: 'summary',
      connections: { tcp: 0, udp: 0, other: 0 },
      bandwidth: {
        tcp: { v4: { tx: 0, rx: 0 }, v6: { tx: 0, rx: 0 } },
        udp: { v4: { tx: 0, rx: 0 }, v6: { tx: 0, rx: 0 } },
      },
      packets: { permitted: 0, blocked: 0, held: 0 },
      verdicts: {},
      lost: 0,
    });
  });
});
