/** What the driver says of itself, decoded from the replies to control requests. */

import { ProtocolError } from './errors.js';
import { CAPABILITIES_SIZE, VERSION_SIZE } from './wire.js';

/** The version of the wire protocol that the driver speaks. */
export interface DriverVersion {
  readonly major: number;
  readonly minor: number;
  readonly revision: number;
  readonly build: number;
}

/** What a driver can do beyond the base protocol. */
export interface Capabilities {
  /** The version of the extension, from 1. */
  readonly protocolExtension: number;
  readonly featureBits: bigint;
  /** How many commands one write may hold. */
  readonly maxCommandsPerWrite: number;
}

const COUNTERS = [
  'eventsQueued',
  'eventsDelivered',
  'eventsLost',
  'bytesDelivered',
  'readsCompleted',
  'verdictsApplied',
  'verdictsUnknownId',
  'commandsRejected',
  'packetsHeld',
  'connections',
  'bandwidthEntries',
  'poolBytes',
  'poolBytesPeak',
  'packetsPermitted',
  'packetsBlocked',
  'packetsInjected',
  'injectFailures',
  'packetsRedirected',
  'fragmentsBlocked',
  'malformedPackets',
] as const;

/**
 * The driver's counters since it was loaded; `packetsHeld`, `connections`, `bandwidthEntries` and `poolBytes` are what
 * there is now. A driver older than this package leaves the counters that it does not know at 0.
 */
export type Statistics = Readonly<Record<(typeof COUNTERS)[number], bigint>>;

/** @internal */
export const STATISTICS_SIZE = 4 + 8 * COUNTERS.length;

/** @internal */
export function decodeVersion(bytes: Uint8Array): DriverVersion {
  checkSize('version', bytes, VERSION_SIZE);
  const [major = 0, minor = 0, revision = 0, build = 0] = bytes;
  return { major, minor, revision, build };
}

/** @internal */
export function decodeCapabilities(bytes: Uint8Array): Capabilities {
  checkSize('capabilities', bytes, CAPABILITIES_SIZE);
  const view = viewOf(bytes);
  return {
    protocolExtension: view.getUint32(4, true),
    featureBits: view.getBigUint64(8, true),
    maxCommandsPerWrite: view.getUint32(16, true),
  };
}

/** @internal */
export function decodeStatistics(bytes: Uint8Array): Statistics {
  checkSize('statistics', bytes, 4);
  const view = viewOf(bytes);
  const counters = COUNTERS.map((name, index) => {
    const offset = 4 + 8 * index;
    const value = offset + 8 <= bytes.length ? view.getBigUint64(offset, true) : 0n;
    return [name, value] as const;
  });
  return Object.fromEntries(counters) as Statistics;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function checkSize(what: string, bytes: Uint8Array, size: number): void {
  if (bytes.length < size) {
    throw new ProtocolError(
      `The driver answered ${bytes.length} bytes for its ${what}, not ${size}. ` +
        'It is not a driver that this package knows: check which device was opened.',
    );
  }
}
