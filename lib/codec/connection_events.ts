/** Connections and packets that ask for a verdict, and their end. */

import { inspect } from 'node:util';
import { AlreadyDecidedError, InvalidArgumentError, UnsupportedError } from '../base/errors.js';
import { protocolName } from './protocols.js';
import { EventBase, defineType, formatAt, readNumber, type RecordSource } from './record_view.js';
import { REDIRECT_VERDICTS, Verdict, type RedirectTarget } from './verdicts.js';

/** Which way a connection or packet goes, seen from this computer. */
export type Direction = 'outbound' | 'inbound';

/** How long a verdict of a connection event holds. */
export interface VerdictOptions {
  /** For the rest of the connection (`true`), or for this packet alone (`false`, the default). */
  readonly permanent?: boolean;
}

/** How long a redirection holds: there is no temporary one. */
export interface RedirectOptions {
  /** A redirection always holds for the rest of the connection. */
  readonly permanent?: true;
}

/**
 * Whose connection it is: what `connection` and `connection-end` events have in common.
 *
 * Fields are declared, not defined: the constructor alone writes them, once, which makes an event three times as cheap.
 */
abstract class ConnectionRecord extends EventBase {
  /** @internal */
  declare protected readonly source: RecordSource;
  /** @internal Of the process id, the first of the fields that both kinds of record have. */
  declare protected readonly offset: number;
  /** @internal 4 or 16. */
  declare protected readonly addressLength: number;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number) {
    super();
    this.source = source;
    this.offset = offset;
    this.addressLength = addressLength;
  }

  /** The process that owns the connection; 0 where the driver cannot know it. */
  get processId(): number {
    return readNumber(this.source.view, this.offset);
  }

  /** The image path of the process, if the driver has told it. */
  get processPath(): string | undefined {
    return this.source.processPaths.at(this.processId, this.source.time);
  }

  /** Who began: this computer, or the other end. */
  get direction(): Direction {
    return this.source.view.getUint8(this.offset + 8) === 0 ? 'outbound' : 'inbound';
  }

  /** The IANA number of the protocol above IP. */
  get protocol(): number {
    return this.source.view.getUint8(this.offset + 9);
  }

  /** The protocol's name in lower case, such as `'tcp'`, or its number as text. */
  get protocolName(): string {
    return protocolName(this.protocol);
  }

  /** The version of both addresses. */
  get ipVersion(): 4 | 6 {
    return this.addressLength === 4 ? 4 : 6;
  }

  /** As text; IPv6 as in RFC 5952. */
  get localAddress(): string {
    return formatAt(this.source.bytes, this.offset + 10, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get localAddressBytes(): Uint8Array {
    const start = this.offset + 10;
    return this.source.bytes.slice(start, start + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get localPort(): number {
    return this.source.view.getUint16(this.offset + 10 + 2 * this.addressLength, true);
  }

  /** As text; IPv6 as in RFC 5952. */
  get remoteAddress(): string {
    return formatAt(this.source.bytes, this.offset + 10 + this.addressLength, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get remoteAddressBytes(): Uint8Array {
    const start = this.offset + 10 + this.addressLength;
    return this.source.bytes.slice(start, start + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get remotePort(): number {
    return this.source.view.getUint16(this.offset + 12 + 2 * this.addressLength, true);
  }

  /** @internal */
  identity(): Record<string, unknown> {
    const path = this.processPath;
    return {
      processId: this.processId,
      ...(path === undefined ? {} : { processPath: path }),
      direction: this.direction,
      protocol: this.protocol,
      protocolName: this.protocolName,
      ipVersion: this.ipVersion,
      localAddress: this.localAddress,
      localPort: this.localPort,
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
    };
  }
}

/**
 * A connection or packet that waits for a verdict: one, by one of the methods here or by `device.setVerdict`.
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
  /** Tells the events apart. */
  declare readonly type: 'connection';
  declare private decided: boolean;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number) {
    super(source, offset, addressLength);
    this.decided = false;
  }

  /** What a verdict for it is given by. */
  get id(): bigint {
    return this.source.view.getBigUint64(this.offset - 8, true);
  }

  /** Where the payload begins: 3 at the IP header, 4 at the transport header. */
  get payloadLayer(): 3 | 4 {
    return this.source.view.getUint8(this.payloadOffset - 5) === 3 ? 3 : 4;
  }

  /** How many bytes `payload` has. */
  get payloadLength(): number {
    return this.source.view.getUint32(this.payloadOffset - 4, true);
  }

  /** The packet's bytes, as far as the driver reports them: a new copy at each read, which the application may keep. */
  get payload(): Uint8Array {
    const start = this.payloadOffset;
    return this.source.bytes.slice(start, start + this.payloadLength);
  }

  /**
   * Lets it through.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  accept(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentAccept : Verdict.Accept);
  }

  /**
   * Refuses it: the application that wants it is told so at once.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  block(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentBlock : Verdict.Block);
  }

  /**
   * Discards it without a word.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed.
   */
  drop(options?: VerdictOptions): void {
    this.decide(permanentOf(options) === true ? Verdict.PermanentDrop : Verdict.Drop);
  }

  /**
   * Sends the whole connection to the resolver or to a tunnel port of this computer.
   *
   * @throws {@link AlreadyDecidedError} when it has its verdict; {@link ClosedError} when the device is closed;
   *   {@link InvalidArgumentError} when the target is none of the three, or `permanent` is false.
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
      payloadLayer: this.payloadLayer,
      payload: this.payload,
    };
  }

  private get payloadOffset(): number {
    return this.offset + 19 + 2 * this.addressLength;
  }

  private decide(verdict: Verdict): void {
    if (this.decided) {
      throw alreadyDecided(this.id);
    }
    const { verdicts, view } = this.source;
    if (verdicts === undefined) {
      throw new UnsupportedError(
        'This event was decoded from bytes, without a device to carry a verdict out. ' +
          "Encode it instead: encodeCommand({ command: 'verdict', id: event.id, verdict }).",
      );
    }
    const idOffset = this.offset - 8;
    verdicts.decide(view.getUint32(idOffset, true), view.getUint32(idOffset + 4, true), verdict);
    this.decided = true;
  }
}
defineType(ConnectionEvent, 'connection');

/** A connection that was reported before is over. */
export class ConnectionEndEvent extends ConnectionRecord {
  /** Tells the events apart. */
  declare readonly type: 'connection-end';

  /** @internal */
  fields(): Record<string, unknown> {
    return { type: this.type, ...this.identity() };
  }
}
defineType(ConnectionEndEvent, 'connection-end');

/** What the options say, or undefined when they say nothing. */
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
    `Connection ${id.toString()} has its verdict already: give one verdict for each id. ` +
      'To change the verdict of a live connection, call device.updateVerdict(connection, verdict).',
  );
}
