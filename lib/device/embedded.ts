/** The embedded backend: a simulated computer with the driver's core in this process. @internal */

import { requireBinding } from '../addon/binding.js';
import type { Binding, ComputerOptions, NativeComputer, NativeDevice } from '../addon/native.cjs';
import { UnsupportedError } from '../base/errors.js';
import { Device } from './device.js';
import { pumpOptions, type ResolvedClientOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

type EmbeddedBinding = Required<Pick<Binding, 'EmbeddedComputer' | 'EmbeddedDevice'>>;

/** @throws UnsupportedError, or the error with which the driver's core failed to load. */
export function startComputer(options: ComputerOptions): NativeComputer {
  const { EmbeddedComputer } = requireEmbedded();
  try {
    return new EmbeddedComputer(options);
  } catch (error) {
    throw nativeError(error, "Starting the driver's core");
  }
}

/** Opens a client of the driver on `computer`. Closing the device calls `close`, or closes the client alone. */
export async function openOn(
  computer: NativeComputer,
  options: ResolvedClientOptions,
  close?: () => Promise<void>,
): Promise<Device> {
  const anchor = new ReadableAnchor();
  const native = openNative(computer, options, anchor);
  try {
    return new Device(native, anchor, options, close);
  } catch (error) {
    await native.close();
    throw error;
  }
}

/** Opens a client on a new computer, which ends when the device is closed. */
export async function openEmbedded(options: ResolvedClientOptions): Promise<Device> {
  const computer = startComputer({ virtualClock: false, verifier: false });
  const close = (): Promise<void> => computer.close();
  try {
    return await openOn(computer, options, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function openNative(
  computer: NativeComputer,
  options: ResolvedClientOptions,
  anchor: ReadableAnchor,
): NativeDevice {
  const { EmbeddedDevice } = requireEmbedded();
  try {
    return new EmbeddedDevice(computer, pumpOptions(options), anchor.onReadable);
  } catch (error) {
    throw nativeError(error, "Opening the driver's device");
  }
}

function requireEmbedded(): EmbeddedBinding {
  const { EmbeddedComputer, EmbeddedDevice } = requireBinding();
  if (EmbeddedComputer === undefined || EmbeddedDevice === undefined) {
    throw new UnsupportedError(
      'This build of the addon has no embedded device: it was compiled on this Windows computer. ' +
        'Use the prebuilt addon of the package: reinstall netverdict without --build-from-source.',
    );
  }
  return { EmbeddedComputer, EmbeddedDevice };
}
