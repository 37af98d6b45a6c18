/** The driver's core in this process: loading it, and a device on it. @internal */

import { Device } from './device.js';
import { UnsupportedError } from './errors.js';
import { loadBinding, type Binding, type NativeEmbeddedDevice } from './native.cjs';
import { embeddedOptions, type ResolvedOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';

export interface EmbeddedMachine {
  readonly device: Device;
  readonly native: NativeEmbeddedDevice;
}

export async function openEmbedded(
  options: ResolvedOptions,
  machine: { readonly virtualClock: boolean; readonly verifier: boolean },
): Promise<EmbeddedMachine> {
  const { EmbeddedDevice } = requireBinding();
  const anchor = new ReadableAnchor();
  const native = new EmbeddedDevice(embeddedOptions(options, machine), anchor.onReadable);
  try {
    return { device: new Device(native, anchor, options), native };
  } catch (error) {
    await native.close();
    throw error;
  }
}

function requireBinding(): Binding {
  try {
    return loadBinding();
  } catch (cause) {
    throw new UnsupportedError(
      `The native part of netverdict cannot be loaded on ${process.platform}-${process.arch}. ` +
        "Run 'npm rebuild netverdict' (it needs a C++ compiler and Python), and see the cause for the reason.",
      { cause },
    );
  }
}
