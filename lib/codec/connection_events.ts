/** Connections and packets that wait for a verdict, and the ends of connections. */

import { inspect } from 'node:util';
import { AlreadyDecidedError, InvalidArgumentError, UnsupportedError } from '../base/errors.js';
import type {
  ConnectionEndedRecord,
  ConnectionInfoRecord,
  EndReason,
} from './connection_details.js';
import { EndpointsRecord } from './endpoints_record.js';
import { protocolName } from './protocols.js';
import { defineType, type RecordSource } from './record_view.js';
import { REDIRECT_VERDICTS, Verdict, type RedirectTarget } from './verdicts.js';
import { readHighWord, readLowWord, readNumber, type ConnectionLayout } from './wire.js';

/** The direction of a connection or packet, as this computer sees it. */
export type Direction = 'outbound' | 'inbound';

/** How long a verdict holds. */
export interface VerdictOptions {
  /** `true`: for the rest of the connection; `false`, the default: for this packet alone. */
  readonly permanent?: boolean;
}

/** How long a redirection holds: always for the rest of the connection. */
export interface RedirectOptions {
  /** May be given, for symmetry with {@link VerdictOptions}. */
  readonly permanent?: true;
}

/** What identifies a connection: the fields that `connection` and `connection-end` events share. */
export abstract class ConnectionRecord extends EndpointsRecord {
  declare protected readonly layout: ConnectionLayout;

  /** The id of the process that owns the connection; 0 where the driver cannot know it. */
  get processId(): number {
    return readNumber(this.source.view, this.offset + this.layout.processId);
  }

  /** The image path of the process, such as `\device\harddiskvolume1\…`; undefined if the driver has not reported it. */
  get processPath(): string | undefined {
    return this.source.processPaths.at(this.processId, this.source.time);
  }

  /** Which end started the connection: this computer (`'outbound'`) or the other end (`'inbound'`). */
  get direction(): Direction {
    const direction = this.source.view.getUint8(this.offset + this.layout.direction);
    return direction === 0 ? 'outbound' : 'inbound';
  }

  /** The IANA number of the protocol above IP. */
  get protocol(): number {
    return this.source.view.getUint8(this.offset + this.layout.protocol);
  }

  /** The protocol's name in lower case, such as `'tcp'`, or its number as text. */
  get protocolName(): string {
    return protocolName(this.protocol);
  }

  /** @internal */
  protected identity(): Record<string, unknown> {
    const path = this.processPath;
    return {
      processId: this.processId,
      ...(path === undefined ? {} : { processPath: path }),
      direction: this.direction,
      protocol: this.protocol,
      protocolName: this.protocolName,
      ...this.endpoints(),
    };
  }
}

/**
 * A connection or packet that waits for a verdict. Give it one verdict: by a method here or by `device.setVerdict`.
 *
 * @example
 * ```ts
 * for await (const event of device.events({ types: ['connection'] })) {
 *   if (event.remotePort === 23) event.block({ permanent: true });
 *   else event.accept({ permanent: true });
 * }
 * ```
 */
export class ConnectionEvent extends ConnectionRecord {
  /** Discriminates the events. */
  declare readonly type: 'connection';
  declare private decided: boolean;
  /** @internal What the driver added, if it did. */
  declare info: ConnectionInfoRecord | undefined;

  /** @internal */
  constructor(source: RecordSource, offset: number, layout: ConnectionLayout) {
    super(source, offset, layout);
    this.decided = false;
    this.info = undefined;
  }

  /** When the driver asked, in milliseconds since the epoch; undefined if the driver does not say it. */
  get time(): number | undefined {
    return this.info?.time;
  }

  /**
   * When the process started, in milliseconds since the epoch; undefined if the driver does not know it.
   *
   * Windows uses the id of a process again. The id and the start together are of one process alone.
   */
  get processStart(): number | undefined {
    return this.info?.processStart;
  }

  /** Whether both ends are on this computer; undefined if the driver does not say it. */
  get loopback(): boolean | undefined {
    return this.info?.loopback;
  }

  /** Identifies what waits. Pass it to `device.setVerdict`. */
  get id(): bigint {
    return this.source.view.getBigUint64(this.offset + this.layout.id, true);
  }

  /** The layer of the payload's first header: 3 for IP, 4 for the transport protocol. Other values stay as they are. */
  get payloadLayer(): number {
    return this.source.view.getUint8(this.offset + this.layout.payloadLayer);
  }

  /** The length of `payload` in bytes. */
  get payloadLength(): number {
    return this.source.view.getUint32(this.offset + this.layout.payloadLength, true);
  }

  /** A copy of the packet's bytes, up to the driver's `payloadLimit`. Each access makes a new copy. */
  get payload(): Uint8Array {
    const start = this.offset + this.layout.byteLength;
    return this.source.bytes.slice(start, start + this.payloadLength);
  }

  /**
   * Permits the packet, or the connection with `{ permanent: true }`.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict.
   * @throws {@link ClosedError} when the device is closed.
   */
  accept(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentAccept : Verdict.Accept);
  }

  /**
   * Refuses the packet, or the connection with `{ permanent: true }`. The application gets an error at once.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict.
   * @throws {@link ClosedError} when the device is closed.
   */
  block(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentBlock : Verdict.Block);
  }

  /**
   * Discards the packet silently, or every packet of the connection with `{ permanent: true }`.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict.
   * @throws {@link ClosedError} when the device is closed.
   */
  drop(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentDrop : Verdict.Drop);
  }

  /**
   * Redirects the whole connection to the resolver or to a tunnel port of this computer.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict.
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link InvalidArgumentError} for an unknown target or `permanent: false`.
   */
  redirect(target: RedirectTarget, options?: RedirectOptions): void {
    const isBrief = permanentOf(options) === false;
    if (!Object.hasOwn(REDIRECT_VERDICTS, target) || isBrief) {
      throw new InvalidArgumentError(
        `A connection is redirected to 'nameserver', 'tunnel' or 'split-tunnel', and always as a whole. ` +
          `Got ${JSON.stringify(target)}${isBrief ? ' with permanent: false' : ''}.`,
      );
    }
    this.decide(REDIRECT_VERDICTS[target]);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      type: this.type,
      id: this.id,
      ...this.identity(),
      ...(this.info === undefined
        ? {}
        : { time: this.time, processStart: this.processStart, loopback: this.loopback }),
      payloadLayer: this.payloadLayer,
      payload: this.payload,
    };
  }

  private decide(verdict: Verdict): void {
    if (this.decided) {
      throw alreadyDecided(this.id);
    }
    const { verdicts, view } = this.source;
    if (verdicts === undefined) {
      throw new UnsupportedError(
        'This event was decoded from bytes, so there is no device to receive its verdict. ' +
          "Encode the verdict instead: encodeCommand({ command: 'verdict', id: event.id, verdict }).",
      );
    }
    const offset = this.offset + this.layout.id;
    verdicts.decide(readLowWord(view, offset), readHighWord(view, offset), verdict);
    this.decided = true;
  }
}
defineType(ConnectionEvent, 'connection');

/** The end of a connection that was reported before. */
export class ConnectionEndEvent extends ConnectionRecord {
  /** Discriminates the events. */
  declare readonly type: 'connection-end';
  /** @internal What the driver added, if it did. */
  declare ended: ConnectionEndedRecord | undefined;

  /** @internal */
  constructor(source: RecordSource, offset: number, layout: ConnectionLayout) {
    super(source, offset, layout);
    this.ended = undefined;
  }

  /** The id of the connection's last event; 0 for none, undefined if the driver does not say it. */
  get id(): bigint | undefined {
    return this.ended?.id;
  }

  /** When it started, in milliseconds since the epoch; undefined if the driver does not say it. */
  get startTime(): number | undefined {
    return this.ended?.startTime;
  }

  /** When it ended, in milliseconds since the epoch; undefined if the driver does not say it. */
  get endTime(): number | undefined {
    return this.ended?.endTime;
  }

  /** The number of bytes that this computer sent; undefined if the driver does not say it. */
  get transmitted(): bigint | undefined {
    return this.ended?.transmitted;
  }

  /** The number of bytes that this computer received; undefined if the driver does not say it. */
  get received(): bigint | undefined {
    return this.ended?.received;
  }

  /** Its last verdict; undefined if the driver does not say it. */
  get verdict(): Verdict | undefined {
    return this.ended?.verdict;
  }

  /** Why it ended; undefined if the driver does not say it. */
  get reason(): EndReason | undefined {
    return this.ended?.reason;
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const fields = { type: this.type, ...this.identity() };
    return this.ended === undefined ? fields : { ...this.ended.fields(), ...fields };
  }
}
defineType(ConnectionEndEvent, 'connection-end');

/** Reads `permanent` from a verdict's options; undefined if they do not give it. */
function permanentOf(options: unknown): boolean | undefined {
  if (options === undefined) {
    return undefined;
  }
  if (typeof options === 'object' && options !== null) {
    const { permanent } = options as { readonly permanent?: unknown };
    if (permanent === undefined || typeof permanent === 'boolean') {
      return permanent;
    }
  }
  throw new InvalidArgumentError(
    `A verdict takes { permanent: true }, { permanent: false } or nothing. Got ${inspect(options)}.`,
  );
}

/** @internal */
export function alreadyDecided(id: bigint): AlreadyDecidedError {
  return new AlreadyDecidedError(
    `Connection ${id.toString()} already has a verdict: give one verdict per id. ` +
      'To change the verdict of a live connection, call device.updateVerdict(connection, verdict).',
  );
}
