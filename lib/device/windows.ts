/** The Windows backend: the device of the installed driver. @internal */

import { requireBinding } from '../addon/binding.js';
import type { Binding, NativeDevice } from '../addon/native.cjs';
import { UnsupportedError } from '../base/errors.js';
import { readVersion } from './control.js';
import { Device } from './device.js';
import { resolveOptions, windowsOptions, type ResolvedOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

type WindowsDeviceClass = NonNullable<Binding['WindowsDevice']>;

export async function openWindows(options: ResolvedOptions): Promise<Device> {
  const WindowsDevice = requireWindowsDevice();
  const anchor = new ReadableAnchor();
  const native = openNative(WindowsDevice, options, anchor);
  try {
    return new Device(native, anchor, options);
  } catch (error) {
    await native.close();
    throw error;
  }
}

/** Asks the running driver of the service for its version. Is its client meanwhile. */
export async function probe(service: string): Promise<void> {
  const options = resolveOptions({ backend: 'windows', path: `\\\\.\\${service}` });
  const native = openNative(requireWindowsDevice(), options, new ReadableAnchor());
  try {
    readVersion(native);
  } finally {
    await native.close();
  }
}

function requireWindowsDevice(): WindowsDeviceClass {
  const { WindowsDevice } = requireBinding();
  if (WindowsDevice === undefined) {
    throw new UnsupportedError(
      `There is no Windows backend on ${process.platform}. ` +
        "Open with { backend: 'embedded' }, or call createSimulator(), to run the driver's core in this process.",
    );
  }
  return WindowsDevice;
}

function openNative(
  WindowsDevice: WindowsDeviceClass,
  options: ResolvedOptions,
  anchor: ReadableAnchor,
): NativeDevice {
  try {
    return new WindowsDevice(windowsOptions(options), anchor.onReadable);
  } catch (error) {
    throw nativeError(error, `Opening ${options.path}`);
  }
}
