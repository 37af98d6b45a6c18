// A device whose reads keep their thread. The environment says which device that is:
// with NETVERDICT_TEST_READS it is the package's, whose driver then has the base protocol alone (test/support/keeping_device.h).
// Otherwise it is the addon's own, as a base client that sends no options.
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

function openAddon(signal) {
  const { loadBinding } = createRequire(import.meta.url)('../../../dist/addon/native.cjs');
  const { EmbeddedComputer, EmbeddedDevice } = loadBinding();
  const computer = new EmbeddedComputer({ virtualClock: false, verifier: false });
  const device = new EmbeddedDevice(computer, READS, ignore);
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
