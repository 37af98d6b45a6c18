/** The driver's core in this process: a computer that has it loaded, and its clients. @internal */

import { requireBinding } from '../addon/binding.js';
import type { Binding, ComputerOptions, NativeComputer, NativeDevice } from '../addon/native.cjs';
import { UnsupportedError } from '../base/errors.js';
import { Device } from './device.js';
import { pumpOptions, type ResolvedClientOptions } from './options.js';
import { ReadableAnchor } from './readable_anchor.js';
import { nativeError } from './status.js';

type EmbeddedBinding = Required<Pick<Binding, 'EmbeddedComputer' | 'EmbeddedDevice'>>;

/** @throws UnsupportedError, or what loading the driver's core failed with. */
export function startComputer(options: ComputerOptions): NativeComputer {
  const { EmbeddedComputer } = requireEmbedded();
  try {
    return new EmbeddedComputer(options);
  } catch (error) {
    throw nativeError(error, "Starting the driver's core");
  }
}

/** A client of the driver on that computer. `close`, the client's alone by default, is what closing the device does. */
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

/** A client of a driver of its own, whose computer ends with it. */
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
