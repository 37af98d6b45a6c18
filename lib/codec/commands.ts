/** From commands to the bytes that the driver reads. */

import { inspect } from 'node:util';
import { InvalidArgumentError } from '../base/errors.js';
import { parseAddress } from './addresses.js';
import { Verdict, isVerdict } from './verdicts.js';
import { CommandType, UPDATE_COMMAND_SIZE_V4, VERDICT_COMMAND_SIZE } from './wire.js';

/** What tells one connection from all others. Every `connection` and `connection-end` event is one. */
export interface ConnectionIdentity {
  /** The IANA number of the protocol above IP. */
  readonly protocol: number;
  /** This computer's address. */
  readonly localAddress: string;
  /** 0 for protocols without ports. */
  readonly localPort: number;
  /** The other end's address. */
  readonly remoteAddress: string;
  /** 0 for protocols without ports. */
  readonly remotePort: number;
}

/** Decides what waits under an id. */
export interface VerdictCommand {
  /** Tells the commands apart. */
  readonly command: 'verdict';
  /** The id of a connection event. */
  readonly id: bigint;
  /** What is decided. */
  readonly verdict: Verdict;
}

/** Changes the verdict of a live connection. */
export interface UpdateCommand {
  /** Tells the commands apart. */
  readonly command: 'update';
  /** Which connection. */
  readonly connection: ConnectionIdentity;
  /** What holds for it from now on. */
  readonly verdict: Verdict;
}

/** A command that consists of its name alone. */
export interface PlainCommand {
  /** Tells the commands apart. */
  readonly command: PlainCommandName;
}

/** A command to the driver. */
export type Command = VerdictCommand | UpdateCommand | PlainCommand;

/** The commands that consist of their name alone. */
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

/**
 * Encodes one command as the driver reads it.
 *
 * @throws {@link InvalidArgumentError} when a part of the command is not what it must be.
 * @example
 * ```ts
 * const bytes = encodeCommand({ command: 'verdict', id: 7n, verdict: Verdict.Accept });
 * ```
 */
export function encodeCommand(command: Command): Uint8Array {
  if (!isObject(command)) {
    throw new InvalidArgumentError(
      `${inspect(command)} is no command. Pass an object, such as { command: 'shutdown' }.`,
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

/** @internal A verdict that decides: the driver would hold for ever what stays undecided. */
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

function encodeVerdict(id: bigint, verdict: Verdict): Uint8Array {
  checkId(id);
  checkDecision(verdict);
  const bytes = new Uint8Array(VERDICT_COMMAND_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, CommandType.Verdict);
  view.setBigUint64(1, id, true);
  view.setUint8(9, verdict);
  return bytes;
}

function encodeUpdate(connection: ConnectionIdentity, verdict: Verdict): Uint8Array {
  if (!isObject(connection)) {
    throw new InvalidArgumentError(
      `${inspect(connection)} is no connection. Pass its event, or its protocol, addresses and ports.`,
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
  const bytes = new Uint8Array(UPDATE_COMMAND_SIZE_V4 - 8 + 2 * local.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, local.length === 4 ? CommandType.UpdateV4 : CommandType.UpdateV6);
  view.setUint8(1, connection.protocol);
  bytes.set(local, 2);
  view.setUint16(2 + local.length, connection.localPort, true);
  bytes.set(remote, 4 + local.length);
  view.setUint16(4 + 2 * local.length, connection.remotePort, true);
  view.setUint8(6 + 2 * local.length, verdict);
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
