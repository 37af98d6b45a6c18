import { describe, expect, it } from 'vitest';
import { loadBinding, type NativeFlowSpec } from '../../lib/addon/native.cjs';

const FLOW: NativeFlowSpec = {
  processId: 1,
  processPath: 'a',
  protocol: 6,
  localAddress: Uint8Array.of(192, 0, 2, 10),
  localPort: 50_000,
  remoteAddress: Uint8Array.of(192, 0, 2, 1),
  remotePort: 443,
};

const PUMP = { readBuffers: 1, readBufferSize: 65_536, highWaterMark: 65_536 };

function newDevice() {
  const readable = { tell: (): void => undefined };
  const { EmbeddedComputer, EmbeddedDevice } = loadBinding();
  const computer = new EmbeddedComputer!({ virtualClock: false, verifier: true });
  const native = new EmbeddedDevice!(computer, PUMP, () => {
    readable.tell();
  });
  native.start();
  const take = async (): Promise<Uint8Array> => {
    for (;;) {
      const told = new Promise<void>((resolve) => {
        readable.tell = resolve;
      });
      const bytes = native.take();
      if (bytes !== null) return bytes;
      await told;
    }
  };
  return { computer, native, take };
}

describe('the addon', () => {
  it('gives bytes that only JavaScript owns', async () => {
    const { computer, take } = newDevice();
    computer.connect(FLOW, () => undefined);
    const first = await take();
    const copy = first.slice();
    expect(first.buffer).toBeInstanceOf(ArrayBuffer);
    expect(first.buffer.byteLength).toBe(first.length);
    const moved = structuredClone(first, { transfer: [first.buffer as ArrayBuffer] });
    expect(first.length).toBe(0);
    expect(moved).toEqual(copy);

    moved.fill(0xff);
    computer.connect({ ...FLOW, localPort: 50_001 }, () => undefined);
    const second = await take();
    expect(second.subarray(0, 4)).toEqual(copy.subarray(0, 4));
    expect(moved.every((byte) => byte === 0xff)).toBe(true);
    await computer.close();
    expect(second.subarray(0, 4)).toEqual(copy.subarray(0, 4));
  });

  it('reads nothing from a closed device', async () => {
    const { computer, native } = newDevice();
    computer.connect(FLOW, () => undefined);
    await native.close();
    expect(native.take()).toBeNull();
    expect(native.end).toMatchObject({ reason: 'cancelled' });
    expect(native.write(Uint8Array.of(0)).status).toBe(0xc000_0128);
    await computer.close();
  });

  it('closes the device with its computer, and opens none on a closed computer', async () => {
    const { computer, native } = newDevice();
    const { EmbeddedDevice } = loadBinding();
    await Promise.all([computer.close(), native.close(), computer.close()]);
    expect(native.write(Uint8Array.of(0)).status).toBe(0xc000_0128);
    expect(() => new EmbeddedDevice!(computer, PUMP, () => undefined)).toThrow(/is closed/);
    expect(() => computer.counters()).toThrow(/is closed/);
  });
});
