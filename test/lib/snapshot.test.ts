import { describe, expect, it } from 'vitest';
import {
  ClosedError,
  InvalidArgumentError,
  ProtocolError,
  UnsupportedError,
} from '../../lib/base/errors.js';
import { Verdict } from '../../lib/codec/verdicts.js';
import { Ioctl } from '../../lib/codec/wire.js';
import { vectors } from '../protocol/vectors.js';
import { scriptedDevice, type Script } from './support/scripted_device.js';

const EXTENSION_2 = { protocolExtension: 2, featureBits: 0x3cfn } as const;
const TWO_CONNECTIONS = vectors.find(({ name }) => name === 'connections')!.bytes;
const NONE = vectors.find(({ name }) => name === 'connections-none')!.bytes;

const CONNECTION = {
  protocol: 6,
  localAddress: '192.0.2.10',
  localPort: 49_152,
  remoteAddress: '198.51.100.1',
  remotePort: 443,
};

function withOutputs(code: number, ...outputs: readonly Uint8Array[]): Script {
  return { ...EXTENSION_2, outputs: { [code]: outputs } };
}

describe('connections()', () => {
  it('asks again from the cursor of each answer, until one has none', async () => {
    const script = withOutputs(Ioctl.GetConnections, TWO_CONNECTIONS, NONE);
    const { device, native } = scriptedDevice(script);
    const connections = await device.connections();
    expect(connections.map(({ localAddress }) => localAddress)).toEqual(['192.0.2.10', '::1']);
    const cursors = native.controls
      .filter(({ code }) => code === Ioctl.GetConnections)
      .map(({ input }) => Buffer.from(input).readBigUInt64LE(4));
    expect(cursors).toEqual([0n, 0x1_0000_0002n]);
  });

  it('is not supported by a driver without the feature', async () => {
    const { device } = scriptedDevice();
    await expect(device.connections()).rejects.toThrow(UnsupportedError);
  });

  it('rejects an answer that is cut off anywhere', async () => {
    for (let length = 0; length < TWO_CONNECTIONS.length; length++) {
      const script = withOutputs(Ioctl.GetConnections, TWO_CONNECTIONS.subarray(0, length));
      await expect(scriptedDevice(script).device.connections()).rejects.toThrow(ProtocolError);
    }
  });

  it('rejects once the device is closed', async () => {
    const { device } = scriptedDevice(withOutputs(Ioctl.GetConnections, NONE));
    await device.close();
    await expect(device.connections()).rejects.toThrow(ClosedError);
  });
});

describe('updateVerdict() of a driver with extension 2', () => {
  it.each([
    [1, true],
    [0, false],
  ])('returns the answer %i of the driver as %s', (answer, known) => {
    const script = withOutputs(Ioctl.UpdateConnection, Uint8Array.of(answer));
    const { device, native } = scriptedDevice(script);
    expect(device.updateVerdict(CONNECTION, Verdict.PermanentBlock)).toBe(known);
    expect(native.controls.at(-1)!.input.at(-1)).toBe(Verdict.PermanentBlock);
    expect(native.commandsWritten).toEqual([]);
  });

  it("sends 'ask' as no verdict", () => {
    const script = withOutputs(Ioctl.UpdateConnection, Uint8Array.of(1));
    const { device, native } = scriptedDevice(script);
    expect(device.updateVerdict(CONNECTION, 'ask')).toBe(true);
    expect(native.controls.at(-1)!.input.at(-1)).toBe(Verdict.Undecided);
  });

  it('follows the verdicts that were given before it', () => {
    const script = withOutputs(Ioctl.UpdateConnection, Uint8Array.of(1));
    const { device, native } = scriptedDevice(script);
    device.setVerdict(7n, Verdict.Accept);
    device.updateVerdict(CONNECTION, Verdict.PermanentAccept);
    expect(native.commandsWritten).toEqual([1]);
  });

  it('refuses a verdict that is none', () => {
    const { device } = scriptedDevice(EXTENSION_2);
    expect(() => device.updateVerdict(CONNECTION, 99 as never)).toThrow(InvalidArgumentError);
  });
});

describe('updateVerdict() of a driver without extension 2', () => {
  it('writes the command and returns undefined', () => {
    const { device, native } = scriptedDevice();
    expect(device.updateVerdict(CONNECTION, Verdict.PermanentBlock)).toBeUndefined();
    expect(native.commandsWritten).toEqual([2]);
  });
});
