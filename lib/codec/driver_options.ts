/** The driver's options, and how a SetOptions request encodes them. */

import { severityNumber, type LogSeverity } from './events.js';
import type { Verdict } from './verdicts.js';
import { BASE_OPTIONS_LENGTH, OptionFlag, OptionsLayout } from './wire.js';

/** What the driver does for this client. The driver resets its options when the device is closed. */
export interface DriverOptions {
  /** What happens to packets that cannot be reported: permitted (`'open'`, the default) or blocked (`'closed'`). */
  readonly failPolicy?: 'open' | 'closed';
  /** Milliseconds until a connection without a verdict gets the timeout verdict; 0, the default, means never. */
  readonly pendingTimeoutMs?: number;
  /** An Accept, Block or Drop value; by default PermanentAccept when failing open, PermanentBlock when failing closed. */
  readonly timeoutVerdict?: Verdict;
  /**
   * The least severity that the driver logs; `'warning'` by default. `'info'` adds attach, detach, options, the filter
   * engine, sleep and resume. `'debug'` adds each decision on a connection, with its addresses, ports and process.
   * `'trace'` adds each packet that is not simply permitted, with the reason. `device.getLogs()` fetches the lines.
   */
  readonly logLevel?: LogSeverity;
  /** The maximum payload of an event in bytes; unlimited by default. */
  readonly payloadLimit?: number;
  /** The port of this computer to which `redirect('nameserver')` leads; 53 by default. */
  readonly dnsPort?: number;
  /** The port of this computer to which `redirect('tunnel')` leads; 717 by default. */
  readonly tunnelPort?: number;
  /** The port of this computer to which `redirect('split-tunnel')` leads; 719 by default. */
  readonly splitTunnelPort?: number;
  /** The size of the driver's event queue in bytes, 64 KiB to 256 MiB; 16 MiB by default. */
  readonly maxQueuedBytes?: number;
  /** The maximum number of held packets, up to 1048576; 65536 by default. */
  readonly maxHeldPackets?: number;
  /**
   * The maximum number of connections that the driver remembers, 4096 to 4194304; 1048576 by default. Near the maximum
   * a new connection takes the place of one that is needed less. A driver without this option has its own maximum.
   */
  readonly maxConnections?: number;
  /**
   * `'permit'`, the default: connections of this computer with itself are permitted without an event. `'ask'`: they are
   * asked about like all others. A driver without extension 2 always asks.
   */
  readonly loopback?: 'permit' | 'ask';
  /**
   * Milliseconds that a question may wait while this program gives no sign of life; 5000 by default, 0 means for ever.
   * Past it the fail policy decides, until the program goes on: it is then asked about what was let in. A program lives
   * while it gives verdicts, or asks an iterator for the next event. A driver without this option waits for ever.
   */
  readonly stallTimeoutMs?: number;
}

/** @internal What a SetOptions request can hold: the driver options, and what the library decides itself. */
export interface OptionsRequest extends Required<DriverOptions> {
  /** Reset segments of unknown connections are dropped, not permitted. */
  readonly dropStrayResets: boolean;
  /** Control traffic is asked about. */
  readonly askControlTraffic: boolean;
  /** The driver sends ConnectionInfo and ConnectionEnded. */
  readonly connectionInfo: boolean;
}

/** @internal The body of a SetOptions request, for a driver with this protocol extension. */
export function encodeDriverOptions(options: OptionsRequest, extension: number): Uint8Array {
  const bytes = new Uint8Array(OptionsLayout.byteLength);
  const view = new DataView(bytes.buffer);
  const length = extension >= 2 ? OptionsLayout.byteLength : BASE_OPTIONS_LENGTH;
  view.setUint32(OptionsLayout.size, length, true);
  view.setUint32(OptionsLayout.flags, optionFlags(options), true);
  view.setUint32(OptionsLayout.payloadLimit, options.payloadLimit, true);
  view.setUint32(OptionsLayout.pendingTimeoutMs, options.pendingTimeoutMs, true);
  view.setUint8(OptionsLayout.timeoutVerdict, options.timeoutVerdict);
  view.setUint8(OptionsLayout.logLevel, severityNumber(options.logLevel));
  view.setUint16(OptionsLayout.dnsPort, options.dnsPort, true);
  view.setUint16(OptionsLayout.tunnelPort, options.tunnelPort, true);
  view.setUint16(OptionsLayout.splitTunnelPort, options.splitTunnelPort, true);
  view.setUint32(OptionsLayout.maxQueuedBytes, options.maxQueuedBytes, true);
  view.setUint32(OptionsLayout.maxHeldPackets, options.maxHeldPackets, true);
  view.setUint32(OptionsLayout.stallTimeoutMs, options.stallTimeoutMs, true);
  view.setUint32(OptionsLayout.maxConnections, options.maxConnections, true);
  return bytes.subarray(0, length);
}

function optionFlags(options: OptionsRequest): number {
  const flags: readonly (readonly [flag: number, isSet: boolean])[] = [
    [OptionFlag.ExtendedRecords, true],
    [OptionFlag.FailClosed, options.failPolicy === 'closed'],
    [OptionFlag.DropStrayResets, options.dropStrayResets],
    [OptionFlag.AskControlTraffic, options.askControlTraffic],
    [OptionFlag.PermitLoopback, options.loopback === 'permit'],
    [OptionFlag.ConnectionInfo, options.connectionInfo],
  ];
  return flags.reduce((bits, [flag, isSet]) => (isSet ? bits | flag : bits), 0);
}
