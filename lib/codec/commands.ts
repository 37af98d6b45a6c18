/** Encodes commands as the driver reads them. */

import { inspect } from 'node:util';
import { InvalidArgumentError } from '../base/errors.js';
import { parseAddress } from './addresses.js';
import { Verdict, isVerdict } from './verdicts.js';
import { CommandType, UpdateLayout, VerdictLayout, writeWords } from './wire.js';

/** Identifies a connection. Every `connection` and `connection-end` event has these fields. */
export interface ConnectionIdentity {
  /** The IANA number of the protocol above IP. */
  readonly protocol: number;
  /** This computer's address. */
  readonly localAddress: string;
  /** This computer's port; 0 for protocols without ports. */
  readonly localPort: number;
  /** The other end's address. */
  readonly remoteAddress: string;
  /** The other end's port; 0 for protocols without ports. */
  readonly remotePort: number;
}

/** Gives a waiting connection or packet its verdict. */
export interface VerdictCommand {
  /** Discriminates the commands. */
  readonly command: 'verdict';
  /** The id of a connection event. */
  readonly id: bigint;
  /** The verdict; never `Verdict.Undecided`. */
  readonly verdict: Verdict;
}

/** Changes the verdict of a live connection. */
export interface UpdateCommand {
  /** Discriminates the commands. */
  readonly command: 'update';
  /** The connection. */
  readonly connection: ConnectionIdentity;
  /** Its new verdict. `Verdict.Undecided` makes the driver ask about it again. */
  readonly verdict: Verdict;
}

/** A command without arguments. */
export interface PlainCommand {
  /** Discriminates the commands. */
  readonly command: PlainCommandName;
}

/** A command to the driver. */
export type Command = VerdictCommand | UpdateCommand | PlainCommand;

/** The names of the commands without arguments. */
export type PlainCommandName =
  | 'shutdown'
  | 'clear-cache'
  | 'get-logs'
  | 'get-bandwidth'
  | 'print-memory-stats'
  | 'clean-ended-connections';

const PLAIN_COMMANDS: Readonly<Record<PlainCommandName, CommandType>> = {
  shutdown: CommandType.Shutdown,
  'clear-cache': CommandType.ClearCache,
  'get-logs': CommandType.GetLogs,
  'get-bandwidth': CommandType.GetBandwidthStats,
  'print-memory-stats': CommandType.PrintMemoryStats,
  'clean-ended-connections': CommandType.CleanEndedConnections,
};

const MAX_ID = 0xffff_ffff_ffff_ffffn;

// The JIT compiler folds local constants, unlike the properties of an imported object.
const { type: TYPE, id: ID, verdict: VERDICT, byteLength: VERDICT_SIZE } = VerdictLayout;

/**
 * Encodes one command as the driver reads it.
 *
 * @throws {@link InvalidArgumentError} when a part of the command is invalid; the message names it.
 * @example
 * ```ts
 * const bytes = encodeCommand({ command: 'verdict', id: 7n, verdict: Verdict.Accept });
 * ```
 */
export function encodeCommand(command: Command): Uint8Array {
  if (!isObject(command)) {
    throw new InvalidArgumentError(
      `${inspect(command)} is not a command. Pass an object, such as { command: 'shutdown' }.`,
    );
  }
  switch (command.command) {
    case 'verdict':
      return encodeVerdict(command.id, command.verdict);
    case 'update':
      return encodeUpdate(command.connection, command.verdict);
    default:
      return encodePlain(command.command);
  }
}

/** @internal */
export function checkVerdict(verdict: Verdict): void {
  if (!isVerdict(verdict)) {
    throw new InvalidArgumentError(
      `${String(verdict)} is not a verdict. Use one of the values of Verdict, such as Verdict.PermanentAccept.`,
    );
  }
}

/** @internal Refuses a verdict that decides nothing: the driver would hold its packet for ever. */
export function checkDecision(verdict: Verdict): void {
  checkVerdict(verdict);
  if (verdict === Verdict.Undecided) {
    throw new InvalidArgumentError(
      'Verdict.Undecided decides nothing. Give another verdict, or none until you know it.',
    );
  }
}

/** @internal */
export function checkId(id: bigint): void {
  if (typeof id !== 'bigint' || id < 1n || id > MAX_ID) {
    throw new InvalidArgumentError(
      `${String(id)} is not the id of a connection event. Pass event.id, a bigint from 1n.`,
    );
  }
}

/** @internal Writes a verdict command at `offset`. The id comes as two 32-bit halves. */
export function writeVerdict(
  view: DataView,
  offset: number,
  idLow: number,
  idHigh: number,
  verdict: Verdict,
): void {
  view.setUint8(offset + TYPE, CommandType.Verdict);
  writeWords(view, offset + ID, idLow, idHigh);
  view.setUint8(offset + VERDICT, verdict);
}

function encodeVerdict(id: bigint, verdict: Verdict): Uint8Array {
  checkId(id);
  checkDecision(verdict);
  const bytes = new Uint8Array(VERDICT_SIZE);
  const view = new DataView(bytes.buffer);
  writeVerdict(view, 0, Number(BigInt.asUintN(32, id)), Number(id >> 32n), verdict);
  return bytes;
}

function encodeUpdate(connection: ConnectionIdentity, verdict: Verdict): Uint8Array {
  if (!isObject(connection)) {
    throw new InvalidArgumentError(
      `${inspect(connection)} is not a connection. Pass its event, or its protocol, addresses and ports.`,
    );
  }
  checkVerdict(verdict);
  checkRange('protocol', connection.protocol, 0xff);
  checkRange('localPort', connection.localPort, 0xffff);
  checkRange('remotePort', connection.remotePort, 0xffff);
  const local = parseAddress(connection.localAddress);
  const remote = parseAddress(connection.remoteAddress);
  if (local.length !== remote.length) {
    throw new InvalidArgumentError(
      `${connection.localAddress} and ${connection.remoteAddress} are not of one IP version. ` +
        'Pass both addresses of one connection.',
    );
  }
  const isIPv4 = local.length === UpdateLayout.v4.addressLength;
  const layout = isIPv4 ? UpdateLayout.v4 : UpdateLayout.v6;
  const bytes = new Uint8Array(layout.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint8(layout.type, isIPv4 ? CommandType.UpdateV4 : CommandType.UpdateV6);
  view.setUint8(layout.protocol, connection.protocol);
  bytes.set(local, layout.localAddress);
  view.setUint16(layout.localPort, connection.localPort, true);
  bytes.set(remote, layout.remoteAddress);
  view.setUint16(layout.remotePort, connection.remotePort, true);
  view.setUint8(layout.verdict, verdict);
  return bytes;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function encodePlain(name: PlainCommandName): Uint8Array {
  if (!Object.hasOwn(PLAIN_COMMANDS, name)) {
    throw new InvalidArgumentError(
      `${JSON.stringify(name)} is not a command. Use 'verdict', 'update' or one of: ` +
        `${Object.keys(PLAIN_COMMANDS).join(', ')}.`,
    );
  }
  return Uint8Array.of(PLAIN_COMMANDS[name]);
}

function checkRange(name: string, value: number, maximum: number): void {
  if (!Number.isInteger(value) || value < 0 || value > maximum) {
    throw new InvalidArgumentError(
      `${name} is ${String(value)}; it must be a whole number from 0 to ${maximum}.`,
    );
  }
}
