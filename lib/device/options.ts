/** The options of `open()`: their types, defaults and checks. */

import type { PumpOptions, WindowsOptions } from '../addon/native.cjs';
import {
  check,
  choice,
  custom,
  integer,
  object,
  optional,
  signalSchema,
  withDefault,
  type Checked,
} from '../base/checks.js';
import type { DriverOptions } from '../codec/driver_options.js';
import { SEVERITIES } from '../codec/events.js';
import { Verdict } from '../codec/verdicts.js';
import { devicePathSchema } from './device_name.js';

/** How events are read from the driver. */
export interface ReadOptions {
  /** The number of concurrent read requests, 1 to 64; 4 by default. */
  readonly readBuffers?: number;
  /** The size of a read buffer in bytes, 1 KiB to 16 MiB; 64 KiB by default. A longer event takes several reads. */
  readonly readBufferSize?: number;
  /** Reading pauses, and the driver queues, while more bytes than this wait for the application; 1 MiB by default. */
  readonly highWaterMark?: number;
}

/** The options of every backend. */
export interface ClientOptions extends DriverOptions, ReadOptions {
  /** Closes the device when aborted. */
  readonly signal?: AbortSignal;
}

/** Options for {@link open}. */
export interface OpenOptions extends ClientOptions {
  /** `'windows'`: the driver of this computer, the default on Windows. `'embedded'`: the driver's core in this process. */
  readonly backend?: 'windows' | 'embedded';
  /** The path of the driver's device, for the Windows backend; `\\.\NetVerdict` by default. */
  readonly path?: string;
}

/** @internal {@link ClientOptions} with every default filled in. */
export interface ResolvedClientOptions {
  readonly signal: AbortSignal | undefined;
  readonly readBuffers: number;
  readonly readBufferSize: number;
  readonly highWaterMark: number;
  readonly driver: Required<DriverOptions>;
  /** The names of the driver options that the caller gave: a driver without options must refuse them by name. */
  readonly given: readonly string[];
}

/** @internal {@link OpenOptions} with every default filled in. */
export interface ResolvedOptions extends ResolvedClientOptions {
  readonly backend: 'windows' | 'embedded';
  readonly path: string;
}

const MAX_U32 = 0xffff_ffff;
const KIB = 1024;
const MIB = 1024 * KIB;

const TIMEOUT_VERDICTS: readonly number[] = [
  Verdict.Accept,
  Verdict.PermanentAccept,
  Verdict.Block,
  Verdict.PermanentBlock,
  Verdict.Drop,
  Verdict.PermanentDrop,
];

const redirectPortSchema = integer(1, 0xffff);

/** @internal */
export const driverShape = {
  failPolicy: withDefault(choice(['open', 'closed']), 'open'),
  pendingTimeoutMs: withDefault(integer(0, MAX_U32), 0),
  timeoutVerdict: optional(
    custom<Verdict>(
      (value) => TIMEOUT_VERDICTS.includes(value as number),
      'must be an Accept, Block or Drop value of Verdict, permanent or not',
    ),
  ),
  logLevel: withDefault(choice(SEVERITIES), 'warning'),
  payloadLimit: withDefault(integer(0, MAX_U32), MAX_U32),
  dnsPort: withDefault(redirectPortSchema, 53),
  tunnelPort: withDefault(redirectPortSchema, 717),
  splitTunnelPort: withDefault(redirectPortSchema, 719),
  maxQueuedBytes: withDefault(integer(64 * KIB, 256 * MIB), 16 * MIB),
  maxHeldPackets: withDefault(integer(1, 1_048_576), 65_536),
  maxConnections: withDefault(integer(4096, 4_194_304), 1_048_576),
  loopback: withDefault(choice(['permit', 'ask']), 'permit'),
  stallTimeoutMs: withDefault(integer(0, MAX_U32), 5000),
};

/** @internal */
export const readShape = {
  readBuffers: withDefault(integer(1, 64), 4),
  readBufferSize: withDefault(integer(KIB, 16 * MIB), 64 * KIB),
  highWaterMark: withDefault(integer(1, MAX_U32), MIB),
};

const clientShape = { ...driverShape, ...readShape, signal: optional(signalSchema) };
const clientSchema = object(clientShape);
const openSchema = object({
  ...clientShape,
  backend: optional(choice(['windows', 'embedded'])),
  path: devicePathSchema,
});

/** @internal */
export function resolveOptions(options: OpenOptions): ResolvedOptions {
  const { backend, path, ...client } = check(openSchema, options, 'The options of open()');
  return {
    backend: backend ?? (process.platform === 'win32' ? 'windows' : 'embedded'),
    path,
    ...resolveChecked(client, options),
  };
}

/** @internal */
export function resolveClientOptions(options: ClientOptions): ResolvedClientOptions {
  return resolveChecked(check(clientSchema, options, 'The options of open()'), options);
}

/** @internal Completes `checked`, the members of `options` after their checks. */
export function resolveChecked(
  checked: Omit<Checked<typeof clientSchema>, 'signal'> & {
    readonly signal?: AbortSignal | undefined;
  },
  options: ClientOptions,
): ResolvedClientOptions {
  const { signal, readBuffers, readBufferSize, highWaterMark, ...driver } = checked;
  return {
    signal,
    readBuffers,
    readBufferSize,
    highWaterMark,
    driver: {
      ...driver,
      timeoutVerdict:
        driver.timeoutVerdict ??
        (driver.failPolicy === 'open' ? Verdict.PermanentAccept : Verdict.PermanentBlock),
    },
    given: Object.entries(options)
      .filter(([name, value]) => name in driverShape && value !== undefined)
      .map(([name]) => name),
  };
}

/** @internal The addon's options for reading. */
export function pumpOptions(options: ResolvedClientOptions): PumpOptions {
  const { readBuffers, readBufferSize, highWaterMark } = options;
  return { readBuffers, readBufferSize, highWaterMark };
}

/** @internal The addon's options for a Windows device. */
export function windowsOptions(options: ResolvedOptions): WindowsOptions {
  return { path: options.path, ...pumpOptions(options) };
}
