/** The device of the driver that is installed on this computer. @internal */

import { requireBinding } from './binding.js';
import { Device } from './device.js';
import { UnsupportedError } from './errors.js';
import type { Binding, NativeDevice } from './native.cjs';
import { windowsOptions, type ResolvedOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

export async function openWindows(options: ResolvedOptions): Promise<Device> {
  const { WindowsDevice } = requireBinding();
  if (WindowsDevice === undefined) {
    throw new UnsupportedError(
      `The Windows backend is not there on ${process.platform}. ` +
        "Open with { backend: 'embedded' }, or call createSimulator(), to run the driver's core in this process.",
    );
  }
  const anchor = new ReadableAnchor();
  const native = openNative(WindowsDevice, options, anchor);
  try {
    return new Device(native, anchor, options);
  } catch (error) {
    await native.close();
    throw error;
  }
}

function openNative(
  WindowsDevice: NonNullable<Binding['WindowsDevice']>,
  options: ResolvedOptions,
  anchor: ReadableAnchor,
): NativeDevice {
  try {
    return new WindowsDevice(windowsOptions(options), anchor.onReadable);
  } catch (error) {
    throw nativeError(error, `Opening ${options.path}`);
  }
}
