/** Control requests to the driver: its version, capabilities, options and counters. @internal */

import type { NativeDevice } from '../addon/native.cjs';
import { UnsupportedError } from '../base/errors.js';
import {
  STATISTICS_SIZE,
  decodeCapabilities,
  decodeStatistics,
  decodeVersion,
  type Capabilities,
  type DriverVersion,
  type Statistics,
} from '../codec/driver_info.js';
import { encodeDriverOptions, type DriverOptions } from '../codec/driver_options.js';
import { CapabilitiesLayout, Ioctl, VersionLayout } from '../codec/wire.js';
import { isSuccess, isUnknownRequest, statusError } from './status.js';

/** The major version of the wire protocol that this package speaks. */
const MAJOR_VERSION = 2;
const NO_INPUT = new Uint8Array(0);

/** @throws UnsupportedError for a driver of another major version. */
export function readVersion(native: NativeDevice): DriverVersion {
  const version = decodeVersion(
    control(native, Ioctl.Version, NO_INPUT, VersionLayout.byteLength, 'Reading the version'),
  );
  if (version.major !== MAJOR_VERSION) {
    const { major, minor, revision, build } = version;
    throw new UnsupportedError(
      `This driver speaks version ${major}.${minor}.${revision}.${build} of the protocol, and this package speaks ` +
        `version ${MAJOR_VERSION}. Install the driver and the package of one release.`,
    );
  }
  return version;
}

/** Returns undefined for a driver with the base protocol alone, which fails the request. */
export function readCapabilities(native: NativeDevice): Capabilities | undefined {
  const { status, output } = native.control(
    Ioctl.GetCapabilities,
    NO_INPUT,
    CapabilitiesLayout.byteLength,
  );
  if (isSuccess(status)) {
    return decodeCapabilities(output);
  }
  if (isUnknownRequest(status)) {
    return undefined;
  }
  throw statusError(status, 'Reading capabilities');
}

export function writeOptions(native: NativeDevice, options: Required<DriverOptions>): void {
  control(native, Ioctl.SetOptions, encodeDriverOptions(options), 0, 'Setting options');
}

export function readStatistics(native: NativeDevice): Statistics {
  const what = 'Reading statistics';
  return decodeStatistics(control(native, Ioctl.GetStatistics, NO_INPUT, STATISTICS_SIZE, what));
}

function control(
  native: NativeDevice,
  code: number,
  input: Uint8Array,
  outputLength: number,
  what: string,
): Uint8Array {
  const { status, output } = native.control(code, input, outputLength);
  if (!isSuccess(status)) {
    throw statusError(status, what);
  }
  return output;
}
