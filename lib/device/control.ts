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
import { encodeGetConnections } from '../codec/snapshot.js';
import { CapabilitiesLayout, Feature, Ioctl, VersionLayout } from '../codec/wire.js';
import type { ResolvedClientOptions } from './options.js';
import { isSuccess, isUnknownRequest, statusError } from './status.js';

/** The major version of the wire protocol that this package speaks. */
const MAJOR_VERSION = 2;
const CONNECTIONS_REPLY_LENGTH = 64 * 1024;
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

/** @throws UnsupportedError for an option that the caller gave and the driver does not know. */
export function checkOptions(
  { driver, given }: ResolvedClientOptions,
  { featureBits }: Capabilities,
): void {
  if (
    given.includes('loopback') &&
    driver.loopback === 'permit' &&
    (featureBits & Feature.TrafficFlags) === 0n
  ) {
    throw new UnsupportedError(
      "This driver asks about loopback in any case. Leave out loopback: 'permit', or update the driver.",
    );
  }
  if (
    given.includes('stallTimeoutMs') &&
    driver.stallTimeoutMs !== 0 &&
    (featureBits & Feature.Stall) === 0n
  ) {
    throw new UnsupportedError(
      'This driver waits for a client that hangs. Leave out stallTimeoutMs, or update the driver.',
    );
  }
  if (given.includes('maxConnections') && (featureBits & Feature.MaxConnections) === 0n) {
    throw new UnsupportedError(
      'The number of connections of this driver is fixed. Leave out maxConnections, or update the driver.',
    );
  }
}

/** Tells the driver that this client lives. A failure is shown by what the client does next. */
export function keepAlive(native: NativeDevice): void {
  native.control(Ioctl.Keepalive, NO_INPUT, 0);
}

/** Sends the options that the driver knows. An option that it does not know keeps the driver's old behaviour. */
export function writeOptions(
  native: NativeDevice,
  options: Required<DriverOptions>,
  { protocolExtension, featureBits }: Capabilities,
): void {
  const request = {
    ...options,
    loopback: (featureBits & Feature.TrafficFlags) === 0n ? 'ask' : options.loopback,
    dropStrayResets: false,
    askControlTraffic: false,
    connectionInfo: (featureBits & Feature.ConnectionInfo) !== 0n,
    stallTimeoutMs: (featureBits & Feature.Stall) === 0n ? 0 : options.stallTimeoutMs,
    maxConnections: (featureBits & Feature.MaxConnections) === 0n ? 0 : options.maxConnections,
  } as const;
  const body = encodeDriverOptions(request, protocolExtension);
  control(native, Ioctl.SetOptions, body, 0, 'Setting options');
}

export function readStatistics(native: NativeDevice): Statistics {
  const what = 'Reading statistics';
  return decodeStatistics(control(native, Ioctl.GetStatistics, NO_INPUT, STATISTICS_SIZE, what));
}

/** Reads a part of the driver's connections. The caller decodes it. */
export function readConnections(native: NativeDevice, cursor: bigint): Uint8Array {
  const input = encodeGetConnections(cursor);
  return control(
    native,
    Ioctl.GetConnections,
    input,
    CONNECTIONS_REPLY_LENGTH,
    'Reading connections',
  );
}

/** Sends an update command. Returns whether the driver knows the connection. */
export function updateConnection(native: NativeDevice, command: Uint8Array): boolean {
  const output = control(native, Ioctl.UpdateConnection, command, 1, 'Updating a verdict');
  return output[0] === 1;
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
