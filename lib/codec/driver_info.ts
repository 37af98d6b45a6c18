/** What the driver says of itself, decoded from the replies to control requests. */

import { ProtocolError } from '../base/errors.js';
import { CAPABILITIES_SIZE, VERSION_SIZE } from './wire.js';

/** The version of the wire protocol that the driver speaks. */
export interface DriverVersion {
  /** Changes when older clients cannot speak to the driver any more. */
  readonly major: number;
  /** Changes with what was added. */
  readonly minor: number;
  /** Changes with what was mended. */
  readonly revision: number;
  /** Tells builds of one revision apart. */
  readonly build: number;
}

/** What a driver can do beyond the base protocol. */
export interface Capabilities {
  /** The version of the extension, from 1. */
  readonly protocolExtension: number;
  /** One bit for each part of the extension. */
  readonly featureBits: bigint;
  /** How many commands one write may hold. */
  readonly maxCommandsPerWrite: number;
}

/**
 * The driver's counters since it was loaded. A driver older than this package leaves the counters that it does not know
 * at 0.
 */
export interface Statistics {
  /** Records that were put into the event queue. */
  readonly eventsQueued: bigint;
  /** Records that were read. */
  readonly eventsDelivered: bigint;
  /** Records that could not be queued. */
  readonly eventsLost: bigint;
  /** Bytes of the records that were read. */
  readonly bytesDelivered: bigint;
  /** Reads that were completed. */
  readonly readsCompleted: bigint;
  /** Verdicts that decided something. */
  readonly verdictsApplied: bigint;
  /** Verdicts for ids that did not wait for one. */
  readonly verdictsUnknownId: bigint;
  /** Commands that were not valid. */
  readonly commandsRejected: bigint;
  /** Packets and operations that wait for a verdict now. */
  readonly packetsHeld: bigint;
  /** Connections that are known now. */
  readonly connections: bigint;
  /** Connections that bandwidth is counted for now. */
  readonly bandwidthEntries: bigint;
  /** Kernel memory in use now, in bytes. */
  readonly poolBytes: bigint;
  /** The most kernel memory that was ever in use, in bytes. */
  readonly poolBytesPeak: bigint;
  /** Packets that were let through. */
  readonly packetsPermitted: bigint;
  /** Packets that were blocked or dropped. */
  readonly packetsBlocked: bigint;
  /** Packets that had been held and were sent or received again. */
  readonly packetsInjected: bigint;
  /** Packets that could not be sent or received again. */
  readonly injectFailures: bigint;
  /** Packets that were given another destination or source. */
  readonly packetsRedirected: bigint;
  /** IP fragments that were blocked. */
  readonly fragmentsBlocked: bigint;
  /** Packets that were blocked because they are not as their headers say. */
  readonly malformedPackets: bigint;
}

/** In their order on the wire. */
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
] as const satisfies readonly (keyof Statistics)[];

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
  return Object.fromEntries(counters) as unknown as Statistics;
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
