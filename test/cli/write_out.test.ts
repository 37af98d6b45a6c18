/** The capture of permitted packets, as tshark reads it. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CaptureFolder } from './captures.js';
import { conversationsOfReplay } from './conversations.js';
import { bundledCapture, replayJson, runCli } from './run_cli.js';
import { CONTROL_TRAFFIC, WRONG_CHECKSUM, conversationsByTshark, dissect } from './tshark.js';

const localAddresses = ['10.77.0.2', 'fd77::2'];
const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

const ANYTHING = 'ip || ipv6';
function count(capture: string, filter = ANYTHING): number {
  return dissect(capture, filter, ['frame.number']).length;
}

/** Replays the bundled capture and returns the path of the capture of permitted packets. */
async function written(name: string, ...args: string[]): Promise<string> {
  const file = folder.file(name);
  await replayJson(bundledCapture, '--write-out', file, ...args);
  return file;
}

describe('netverdict replay --write-out with an Accept for everything', () => {
  let file: string;
  let before: number;
  let after: number;

  beforeAll(async () => {
    before = Date.now();
    file = await written('everything.pcapng');
    after = Date.now();
  });

  it('writes sent and delivered packets', () => {
    const host = dissect(bundledCapture, 'ip.src == 10.77.0.2', ['eth.src'])[0]!['eth.src'];
    const packets = dissect(file, ANYTHING, ['frame.interface_name']);
    const on = (name: string): number =>
      packets.filter((packet) => packet['frame.interface_name'] === name).length;
    expect({
      network: on('network'),
      loopback: on('loopback'),
      delivered: on('delivered'),
    }).toEqual({
      network: count(bundledCapture, `(${ANYTHING}) && eth.src == ${host}`),
      loopback: 0,
      delivered: count(bundledCapture, `(${ANYTHING}) && eth.src != ${host}`),
    });
  });

  it('writes every conversation and its payload', () => {
    expect(conversationsByTshark(file, localAddresses)).toEqual(
      conversationsByTshark(bundledCapture, localAddresses),
    );
  });

  it('writes right checksums', () => {
    expect(count(file, 'tcp.checksum.status == "Good"')).toBeGreaterThan(1000);
    expect(dissect(file, WRONG_CHECKSUM, ['frame.number'])).toEqual([]);
  });

  it('writes the direction of each packet', () => {
    const wrong =
      'ip.src == 10.77.0.2 && !icmp && frame.packet_flags_direction != 2 || ' +
      'ip.dst == 10.77.0.2 && !icmp && frame.packet_flags_direction != 1';
    expect(count(file, 'frame.packet_flags_direction')).toBe(count(file));
    expect(dissect(file, wrong, ['frame.number'])).toEqual([]);
  });

  it("writes times of the computer's clock, in the order of the packets", () => {
    const times = dissect(file, ANYTHING, ['frame.time_epoch']).map((packet) =>
      Number(packet['frame.time_epoch']),
    );
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times[0]! * 1000).toBeGreaterThanOrEqual(before);
    expect(times.at(-1)! * 1000).toBeLessThanOrEqual(after + 1);
  });
});

describe('netverdict replay --write-out', () => {
  it('omits blocked packets', async () => {
    const everything = conversationsOfReplay(await replayJson(bundledCapture));
    const file = await written('sample.pcapng', '--policy', 'examples/policy.json');
    const isBlocked = (key: string): boolean =>
      /^tcp .* 10\.77\.0\.1:9999$/.test(key) || /^udp .*:5201$/.test(key);
    const permitted = [...everything.keys()].filter((key) => !isBlocked(key));
    expect(permitted.length).toBeLessThan(everything.size);
    expect([...conversationsByTshark(file, localAddresses).keys()].sort()).toEqual(
      permitted.sort(),
    );
  });

  it('writes only control traffic if everything is blocked', async () => {
    const policy = folder.write('block.json', '{"default": "permanent-block"}');
    const file = await written('nothing.pcapng', '--policy', policy);
    expect(existsSync(file)).toBe(true);
    expect(count(file)).toBe(count(bundledCapture, CONTROL_TRAFFIC));
    expect(count(file, `!(${CONTROL_TRAFFIC})`)).toBe(0);
  });

  it('replaces the previous content of the file', async () => {
    const path = folder.write('before.pcapng', 'x'.repeat(10_000_000));
    expect(count(await written('before.pcapng'))).toBeGreaterThan(2000);
    expect(readFileSync(path).length).toBeLessThan(10_000_000);
  });
});

describe('a file that cannot be written', () => {
  const problems: [string, string, RegExp][] = [
    [
      'in a folder that is not there',
      join('no-such-folder', 'out.pcapng'),
      /No such file or directory/,
    ],
    ['that is a folder', 'captures', /directory/],
    ['without a name', '', /writeOut/],
  ];
  it.each(problems)('%s: exits with 2 and a reason', async (_, file, message) => {
    const result = await runCli('replay', bundledCapture, '--write-out', file);
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toContain(file);
    expect(result.stderr.trim().split('\n')).toHaveLength(1);
  });

  it.skipIf(!existsSync('/dev/full'))(
    'because the disk is full: exits with 2 and a reason',
    async () => {
      const result = await runCli('replay', bundledCapture, '--write-out', '/dev/full');
      expect(result.code).toBe(2);
      expect(result.stderr).toMatch(/\/dev\/full.*No space left/);
    },
  );

  it('because it is the capture itself: exits with 2 and does not change the capture', async () => {
    const capture = folder.edit('itself.pcap', ['-F', 'pcap']);
    const bytes = readFileSync(capture);
    const result = await runCli('replay', capture, '--write-out', capture);
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(/itself\.pcap.*another file/);
    expect(readFileSync(capture).equals(bytes)).toBe(true);
  });
});
