/** The options of `open()`: their types, defaults and checks. */

import { z } from 'zod';
import type { PumpOptions, WindowsOptions } from '../addon/native.cjs';
import { check, signalSchema } from '../base/checks.js';
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

const redirectPortSchema = z.int().min(1).max(0xffff);

const driverShape = {
  failPolicy: z.enum(['open', 'closed']).default('open'),
  pendingTimeoutMs: z.int().min(0).max(MAX_U32).default(0),
  timeoutVerdict: z
    .custom<Verdict>(
      (value) => TIMEOUT_VERDICTS.includes(value as number),
      'must be an Accept, Block or Drop value of Verdict, permanent or not',
    )
    .optional(),
  logLevel: z.enum(SEVERITIES).default('warning'),
  payloadLimit: z.int().min(0).max(MAX_U32).default(MAX_U32),
  dnsPort: redirectPortSchema.default(53),
  tunnelPort: redirectPortSchema.default(717),
  splitTunnelPort: redirectPortSchema.default(719),
  maxQueuedBytes: z
    .int()
    .min(64 * KIB)
    .max(256 * MIB)
    .default(16 * MIB),
  maxHeldPackets: z.int().min(1).max(1_048_576).default(65_536),
  loopback: z.enum(['permit', 'ask']).default('permit'),
};

const readShape = {
  readBuffers: z.int().min(1).max(64).default(4),
  readBufferSize: z
    .int()
    .min(KIB)
    .max(16 * MIB)
    .default(64 * KIB),
  highWaterMark: z.int().min(1).max(MAX_U32).default(MIB),
};

/** @internal */
export const clientSchema = z.strictObject({
  ...driverShape,
  ...readShape,
  signal: signalSchema.optional(),
});

const openSchema = clientSchema.extend({
  backend: z.enum(['windows', 'embedded']).optional(),
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

/** @internal Completes `checked`, the result of {@link clientSchema} for `options`. */
export function resolveChecked(
  checked: z.output<typeof clientSchema>,
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
