/** The driver's core in this process: loading it, and a device on it. @internal */

import { requireBinding } from './binding.js';
import { Device } from './device.js';
import { UnsupportedError } from './errors.js';
import type { Binding, EmbeddedOptions, NativeEmbeddedDevice } from './native.cjs';
import { embeddedOptions, type ResolvedOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

export interface EmbeddedMachine {
  readonly device: Device;
  readonly native: NativeEmbeddedDevice;
}

export async function openEmbedded(
  options: ResolvedOptions,
  machine: { readonly virtualClock: boolean; readonly verifier: boolean },
): Promise<EmbeddedMachine> {
  const { EmbeddedDevice } = requireBinding();
  if (EmbeddedDevice === undefined) {
    throw new UnsupportedError(
      'This build of the addon has no embedded device: it was compiled on this Windows computer. ' +
        'Use the prebuilt addon of the package: reinstall netverdict without --build-from-source.',
    );
  }
  const anchor = new ReadableAnchor();
  const native = newNative(EmbeddedDevice, embeddedOptions(options, machine), anchor);
  try {
    return { device: new Device(native, anchor, options), native };
  } catch (error) {
    await native.close();
    throw error;
  }
}

function newNative(
  EmbeddedDevice: NonNullable<Binding['EmbeddedDevice']>,
  options: EmbeddedOptions,
  anchor: ReadableAnchor,
): NativeEmbeddedDevice {
  try {
    return new EmbeddedDevice(options, anchor.onReadable);
  } catch (error) {
    throw nativeError(error, "Starting the driver's core");
  }
}
