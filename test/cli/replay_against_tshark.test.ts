import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CaptureFolder } from './captures.js';
import { conversationsOfReplay, countConnections, totals } from './conversations.js';
import { bundledCapture, bundledLocal, replayJson, root } from './run_cli.js';
import { conversationsByTshark } from './tshark.js';

const localAddresses = ['10.77.0.2', 'fd77::2'];
const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

describe('replay of the bundled capture', () => {
  it('prints 51 TCP and 7 UDP conversations, each exactly once', async () => {
    const conversations = conversationsOfReplay(await replayJson(bundledCapture, ...bundledLocal));
    expect(countConnections(conversations, 'tcp')).toBe(51);
    expect(countConnections(conversations, 'udp')).toBe(7);
    expect([...conversations.values()].map((conversation) => conversation.connections)).toEqual(
      Array.from({ length: 58 }, () => 1),
    );
  });

  it('counts the sent and received payload', async () => {
    const conversations = conversationsOfReplay(await replayJson(bundledCapture, ...bundledLocal));
    expect(totals(conversations)).toEqual({
      tcp: { v4: { tx: 5_245, rx: 613_498 }, v6: { tx: 300_285, rx: 300_290 } },
      udp: { v4: { tx: 250_154, rx: 166 }, v6: { tx: 150, rx: 198 } },
    });
  });

  it('ends with a summary that matches its events', async () => {
    const lines = await replayJson(bundledCapture, ...bundledLocal);
    const conversations = conversationsOfReplay(lines);
    const connections = lines.filter((line) => line.type === 'connection');
    expect(lines.at(-1)).toMatchObject({
      type: 'summary',
      connections: { tcp: 51, udp: 7 },
      bandwidth: totals(conversations),
      verdicts: { PermanentAccept: connections.length },
      lost: 0,
    });
  });

  it('finds the local host without an option', async () => {
    const fromEvents = conversationsOfReplay(await replayJson(bundledCapture, ...bundledLocal));
    const found = conversationsOfReplay(await replayJson(bundledCapture));
    expect(found).toEqual(fromEvents);
  });
});

const variants: Record<string, () => string> = {
  'the capture as it is': () => bundledCapture,
  pcapng: () => folder.edit('capture.pcapng', ['-F', 'pcapng']),
  'nanosecond timestamps': () => folder.edit('nanoseconds.pcap', ['-F', 'nsecpcap']),
  'raw IP without link layer': () =>
    folder.edit('raw.pcap', ['-F', 'pcap', '-C', '14', '-L', '-T', 'rawip']),
  'conversations whose beginning is missing': () =>
    folder.edit('middle.pcap', ['-F', 'pcap', '-r'], ['700-1700']),
  'frames missing in the middle': () =>
    folder.edit('gaps.pcap', ['-F', 'pcap'], ['300-340', '900-905', '1500']),
  'retransmitted frames': () => folder.withDuplicates('duplicates.pcap', ['100-160', '800-1000']),
};

describe('replay agrees with tshark about every conversation and its payload', () => {
  it.each(Object.keys(variants))('%s', async (name) => {
    const capture = variants[name]!();
    const byTshark = conversationsByTshark(capture, localAddresses);
    const byReplay = conversationsOfReplay(await replayJson(capture, ...bundledLocal));
    expect(byTshark.size).toBeGreaterThan(0);
    expect(Object.fromEntries(byReplay)).toEqual(Object.fromEntries(byTshark));
  });
});

/** Capturing needs root on Linux; where it is required, a missing right is a failure. */
const mayCapture =
  Boolean(process.env['CI']) || spawnSync('unshare', ['--net', 'true']).status === 0;

describe.skipIf(!mayCapture)('replay of live captured traffic', () => {
  const capture = folder.file('live.pcapng');

  beforeAll(() => {
    const script = join(root, 'test', 'cli', 'live_traffic.mjs');
    const result = spawnSync('unshare', ['--net', process.execPath, script, capture], {
      encoding: 'utf8',
    });
    if (result.status !== 0) throw new Error(`no live traffic: ${result.stderr}`);
  });

  it.each([
    ['the side that connects', ['10.99.0.1', 'fd99::1']],
    ['the side that is connected to', ['10.99.0.2', 'fd99::2']],
  ])('agrees with tshark as seen from %s', async (_, addresses) => {
    const byTshark = conversationsByTshark(capture, addresses);
    const options = addresses.flatMap((address) => ['--local', address]);
    const byReplay = conversationsOfReplay(await replayJson(capture, ...options));
    expect(byTshark.size).toBeGreaterThan(20);
    expect(Object.fromEntries(byReplay)).toEqual(Object.fromEntries(byTshark));
  });
});
