/** Decodes the driver's replies to control requests: its version, capabilities and counters. */

import { ProtocolError } from '../base/errors.js';
import {
  CapabilitiesLayout,
  ENGINE_STATES,
  COUNTER_SIZE,
  STATISTICS_COUNTERS,
  StatisticsHeaderLayout,
  VersionLayout,
  type Layout,
} from './wire.js';

/** The version of the driver's wire protocol. */
export interface DriverVersion {
  /** Increases when older clients can no longer use the driver. */
  readonly major: number;
  /** Increases with additions. */
  readonly minor: number;
  /** Increases with fixes. */
  readonly revision: number;
  /** Distinguishes builds of one revision. */
  readonly build: number;
}

/** The driver's features beyond the base protocol. */
export interface Capabilities {
  /** The version of the protocol extension, from 1. */
  readonly protocolExtension: number;
  /** One bit per feature of the extension. */
  readonly featureBits: bigint;
  /** The maximum number of commands in one write. */
  readonly maxCommandsPerWrite: number;
}

/**
 * What the Windows filter engine answered when the driver last gave it the filters that are wanted.
 *
 * - `stopped`: its service (BFE) does not run. Nothing is filtered until it does.
 * - `refused`: it refused. Nothing new is filtered. The driver tries again.
 * - `busy`: another product's transaction is open. The driver tries again.
 * - `ready`: it has no filters, because no client is attached and the fail policy is open.
 * - `filtering`: it has all filters.
 * - `lost`: it has lost filters. The driver adds them anew.
 * - `unknown`: the driver does not report the state, or has not asked the engine yet.
 */
export type EngineState =
  'stopped' | 'refused' | 'busy' | 'ready' | 'filtering' | 'lost' | 'unknown';

/**
 * The driver's counters since it was loaded. A counter that an older driver does not have is 0.
 */
export interface Statistics {
  /** Records added to the event queue. */
  readonly eventsQueued: bigint;
  /** Records read by the client. */
  readonly eventsDelivered: bigint;
  /** Records lost because they could not be queued. */
  readonly eventsLost: bigint;
  /** Bytes of the records read by the client. */
  readonly bytesDelivered: bigint;
  /** Read requests completed. */
  readonly readsCompleted: bigint;
  /** Verdicts that decided a waiting connection or packet. */
  readonly verdictsApplied: bigint;
  /** Verdicts whose id was not waiting. */
  readonly verdictsUnknownId: bigint;
  /** Commands rejected as invalid. */
  readonly commandsRejected: bigint;
  /** Packets and operations that are held now. */
  readonly packetsHeld: bigint;
  /** Connections in the connection table now. */
  readonly connections: bigint;
  /** Connections whose bandwidth is counted now. */
  readonly bandwidthEntries: bigint;
  /** Kernel memory in use now, in bytes. */
  readonly poolBytes: bigint;
  /** The peak of kernel memory in use, in bytes. */
  readonly poolBytesPeak: bigint;
  /** Packets permitted. */
  readonly packetsPermitted: bigint;
  /** Packets blocked or dropped. */
  readonly packetsBlocked: bigint;
  /** Held packets injected again after their verdict. */
  readonly packetsInjected: bigint;
  /** Held packets whose injection failed. */
  readonly injectFailures: bigint;
  /** Packets rewritten to another destination or source. */
  readonly packetsRedirected: bigint;
  /** IP fragments blocked. */
  readonly fragmentsBlocked: bigint;
  /** Packets blocked because their headers are inconsistent. */
  readonly malformedPackets: bigint;
  /** How often a client was found stalled: it gave no sign of life while a question waited. */
  readonly clientStalls: bigint;
  /** Attempts to change the filters that the filter engine did not carry out. The driver repeats each. */
  readonly engineRetries: bigint;
  /** The state of the filter engine now. */
  readonly engineState: EngineState;
}

/** @internal */
export const STATISTICS_SIZE =
  StatisticsHeaderLayout.byteLength + COUNTER_SIZE * STATISTICS_COUNTERS.length;

/** @internal */
export function decodeVersion(bytes: Uint8Array): DriverVersion {
  const view = viewOf(bytes, VersionLayout, 'version');
  return {
    major: view.getUint8(VersionLayout.major),
    minor: view.getUint8(VersionLayout.minor),
    revision: view.getUint8(VersionLayout.revision),
    build: view.getUint8(VersionLayout.build),
  };
}

/** @internal */
export function decodeCapabilities(bytes: Uint8Array): Capabilities {
  const view = viewOf(bytes, CapabilitiesLayout, 'capabilities');
  return {
    protocolExtension: view.getUint32(CapabilitiesLayout.protocolExtension, true),
    featureBits: view.getBigUint64(CapabilitiesLayout.featureBits, true),
    maxCommandsPerWrite: view.getUint32(CapabilitiesLayout.maxCommandsPerWrite, true),
  };
}

/** @internal */
export function decodeStatistics(bytes: Uint8Array): Statistics {
  const view = viewOf(bytes, StatisticsHeaderLayout, 'statistics');
  const counters = STATISTICS_COUNTERS.map((name, index) => {
    const offset = StatisticsHeaderLayout.byteLength + COUNTER_SIZE * index;
    const isPresent = offset + COUNTER_SIZE <= bytes.length;
    if (name === 'engineState')
      return [name, isPresent ? engineState(view.getBigUint64(offset, true)) : 'unknown'];
    return [name, isPresent ? view.getBigUint64(offset, true) : 0n];
  });
  return Object.fromEntries(counters.filter(([name]) => name !== null)) as Statistics;
}

function engineState(number: bigint): EngineState {
  return ENGINE_STATES[Number(number)] ?? 'unknown';
}

function viewOf(bytes: Uint8Array, { byteLength }: Layout<never>, what: string): DataView {
  if (bytes.length < byteLength) {
    throw new ProtocolError(
      `The driver answered ${bytes.length} bytes for its ${what}, not ${byteLength}. ` +
        'This package does not know such a driver: check which device was opened.',
    );
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
