import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { bandwidthOnceRead } from '../../lib/cli/replay.js';
import { ReplayReport } from '../../lib/cli/replay_report.js';
import { parseInfo } from '../../lib/codec/decoder.js';
import type { BandwidthEvent } from '../../lib/codec/events.js';
import { bandwidth, bytes, connection, replyEnd } from '../lib/support/records.js';
import { scriptedDevice } from '../lib/support/scripted_device.js';

const GET_BANDWIDTH = 6;
const ENTRY = {
  localAddress: '192.0.2.10',
  localPort: 1,
  remoteAddress: '198.51.100.1',
  remotePort: 2,
  transmittedBytes: 10n,
  receivedBytes: 20n,
};

describe('a replay whose output is read slowly', () => {
  it('requests bandwidth again until the events before the answer are read', async () => {
    const { device, native } = scriptedDevice({}, { maxQueuedBytes: 65_536, highWaterMark: 1 });
    const many = bytes(...Array.from({ length: 1000 }, () => connection()));
    for (let read = 0; read < 4; read++) native.feed(many);
    const answer = bandwidthOnceRead(device);
    await expect.poll(() => native.writes.length).toBe(2);
    const batches = device.batches();
    for (let read = 0; read < 4; read++) await batches.next();
    const asked = native.writes.length;
    await expect.poll(() => native.writes.length).toBe(asked + 1);
    native.feed(bandwidth(6, [ENTRY]), replyEnd(GET_BANDWIDTH, BigInt(asked + 1)));
    expect(await answer).toMatchObject([ENTRY]);
  });

  it('counts bandwidth that arrives after the last request', async () => {
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    onTestFinished(() => {
      write.mockRestore();
    });
    const report = new ReplayReport(true, false);
    const [event] = parseInfo(bandwidth(6, [ENTRY]));
    report.addEvent(event as BandwidthEvent);
    await report.finish({ permitted: 0, blocked: 0, held: 0 });
    const lines = write.mock.calls.join('').trim().split('\n');
    const [entry, summary] = lines.map((line) => JSON.parse(line) as object);
    expect(entry).toMatchObject({ type: 'bandwidth', protocol: 6 });
    expect(summary).toMatchObject({ bandwidth: { tcp: { v4: { tx: 10, rx: 20 } } } });
  });
});
