// A device whose reads keep their thread. With NETVERDICT_TEST_READS it is the package's device, and its driver has
// the base protocol alone (test/support/keeping_device.h). Otherwise it is the addon's device, which sends no options.
// Under Wine the reads of such a client pend, and the driver is the installed one.
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { open } from 'netverdict';

const READS = { readBuffers: 4, readBufferSize: 65_536, highWaterMark: 1 << 20 };

/** The addon keeps this function, which therefore may not refer to a device. */
const ignore = () => undefined;

async function openPackage(signal) {
  const device = await open({ backend: 'embedded', ...(signal && { signal }) });
  if (device.capabilities() !== undefined) throw new Error('the driver is no base driver');
  return device;
}

const isWindows = process.platform === 'win32';

function newDevice() {
  const folder = isWindows ? 'lib' : 'dist';
  const { loadBinding } = createRequire(import.meta.url)(`../../../${folder}/addon/native.cjs`);
  const { EmbeddedComputer, EmbeddedDevice, WindowsDevice } = loadBinding();
  if (isWindows) {
    return new WindowsDevice({ path: String.raw`\\.\NetVerdict`, ...READS }, ignore);
  }
  const computer = new EmbeddedComputer({ virtualClock: false, verifier: false });
  return new EmbeddedDevice(computer, READS, ignore);
}

function openAddon(signal) {
  const device = newDevice();
  device.start();
  signal?.addEventListener('abort', () => void device.close());
  return device;
}

/** Opens the device. Its read has begun when this returns. */
export async function openKept(signal) {
  const device = await (process.env.NETVERDICT_TEST_READS ? openPackage : openAddon)(signal);
  await delay(100);
  return device;
}
