/** The Windows backend: the device of the installed driver. @internal */

import { requireBinding } from '../addon/binding.js';
import type { Binding, NativeDevice } from '../addon/native.cjs';
import { BusyError, UnsupportedError } from '../base/errors.js';
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

/** Rejects if the running driver of the service does not answer. One that serves another client answers. */
export async function probe(service: string): Promise<void> {
  const options = resolveOptions({ backend: 'windows', path: `\\\\.\\${service}` });
  try {
    const native = openNative(requireWindowsDevice(), options, new ReadableAnchor());
    try {
      readVersion(native);
    } finally {
      await native.close();
    }
  } catch (error) {
    if (!(error instanceof BusyError)) {
      throw error;
    }
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
