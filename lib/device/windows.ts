/** The Windows backend: the device of the installed driver. @internal */

import { requireBinding } from '../addon/binding.js';
import type { Binding, NativeDevice } from '../addon/native.cjs';
import { UnsupportedError } from '../base/errors.js';
import { Device } from './device.js';
import { windowsOptions, type ResolvedOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

export async function openWindows(options: ResolvedOptions): Promise<Device> {
  const { WindowsDevice } = requireBinding();
  if (WindowsDevice === undefined) {
    throw new UnsupportedError(
      `There is no Windows backend on ${process.platform}. ` +
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
