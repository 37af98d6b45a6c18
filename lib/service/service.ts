/** The driver as a Windows service: installed, started, stopped and removed through the service control manager. */

import { join, win32 } from 'node:path';
import { z } from 'zod';
import { requireBinding } from '../addon/binding.js';
import { check, signalSchema } from '../base/checks.js';
import { UnsupportedError } from '../base/errors.js';
import { deviceNameSchema } from '../device/device_name.js';
import { ServiceControl } from './service_control.js';
import type { ServiceStartType, ServiceStatus } from './service_status.js';

/** Which service is meant. */
export interface ServiceOptions {
  /**
   * The service's name, and that of its device `\\.\<name>`: up to 128 letters, digits, `_` and `-`, and not the name of
   * a device that Windows has. `'NetVerdict'` by default.
   */
  readonly name?: string;
}

/** How long to wait for the driver. */
export interface WaitOptions extends ServiceOptions {
  /** Milliseconds until a {@link TimeoutError}; 30000 by default. What was asked of Windows may still happen. */
  readonly timeoutMs?: number;
  /** Ends the waiting with its reason. */
  readonly signal?: AbortSignal;
}

/** What is installed. */
export interface InstallOptions extends ServiceOptions {
  /** The driver's file, on a disk of this computer; by default the one in this package. It must stay where it is. */
  readonly sysPath?: string;
  /** What services.msc shows; `'netverdict network filter'` by default. */
  readonly displayName?: string;
  /** `'demand'` by default: started by {@link DriverService.start} alone. */
  readonly startType?: ServiceStartType;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 0x7fff_ffff;
const MAX_DISPLAY_NAME_LENGTH = 256;

/** The kernel opens the file itself: it needs a plain path on a local disk. */
const pathSchema = z
  .string()
  .min(1)
  .refine((path) => !/[\0"]/.test(path), 'must be a path')
  .transform((path) => win32.resolve(path))
  .refine((path) => /^[A-Za-z]:\\/.test(path), "must be on a disk of this computer: 'C:\\…'");

const serviceSchema = z.strictObject({ name: deviceNameSchema }).prefault({});

const waitSchema = z
  .strictObject({
    name: deviceNameSchema,
    timeoutMs: z.int().min(1).max(MAX_TIMEOUT_MS).default(DEFAULT_TIMEOUT_MS),
    signal: signalSchema.optional(),
  })
  .prefault({});

const installSchema = z
  .strictObject({
    name: deviceNameSchema,
    sysPath: pathSchema.optional(),
    displayName: z
      .string()
      .min(1)
      .max(MAX_DISPLAY_NAME_LENGTH)
      .default('netverdict network filter'),
    startType: z.enum(['demand', 'system', 'auto']).default('demand'),
  })
  .prefault({});

/** The driver that this package brings for this computer. */
function packagedDriver(): string {
  return join(__dirname, '..', '..', 'prebuilds', `win32-${process.arch}`, 'netverdict.sys');
}

function requireControl(): ServiceControl {
  if (process.platform !== 'win32') {
    throw new UnsupportedError(
      `The driver is for Windows: on ${process.platform} there is no service to control. ` +
        "Call createSimulator(), or open({ backend: 'embedded' }), to run the driver's core in this process.",
    );
  }
  const { service: native } = requireBinding();
  if (native === undefined) {
    throw new UnsupportedError(
      "The native part of netverdict is older than its library. Run 'npm rebuild netverdict'.",
    );
  }
  return new ServiceControl(native);
}

/** Controls the driver's service; see {@link service}. */
export interface DriverService {
  /**
   * Registers the driver. It is not started.
   *
   * @throws {@link AccessDeniedError} without administrator rights; {@link ServiceStateError} when there is a service of
   *   the name; {@link NotFoundError} when there is no such file; {@link InvalidArgumentError} when it is a folder.
   */
  install(options?: InstallOptions): Promise<void>;
  /**
   * Loads the driver, and waits until it runs.
   *
   * @throws {@link AccessDeniedError}; {@link NotFoundError} when it is not installed, or its file is gone;
   *   {@link ServiceStateError} when it runs already, or when the filter engine (the service BFE) does not;
   *   {@link DriverRefusedError} when Windows does not load it: not signed, blocked by a policy, for another processor;
   *   {@link TimeoutError}.
   */
  start(options?: WaitOptions): Promise<void>;
  /**
   * Unloads the driver, and waits until it is gone; it stays while a program has its device open.
   *
   * @throws {@link AccessDeniedError}; {@link NotFoundError}; {@link ServiceStateError} when it does not run;
   *   {@link TimeoutError}.
   */
  stop(options?: WaitOptions): Promise<void>;
  /**
   * Stops the driver where it runs, removes the service, and waits until its name is free.
   *
   * @throws {@link AccessDeniedError}; {@link NotFoundError}; {@link TimeoutError} when somebody still uses it: Windows
   *   then removes it after the last one.
   */
  remove(options?: WaitOptions): Promise<void>;
  /** Asks how the service is. Needs no administrator rights. */
  status(options?: ServiceOptions): Promise<ServiceStatus>;
}

/**
 * The driver's service on this computer. Windows only: elsewhere every function rejects with an
 * {@link UnsupportedError}.
 *
 * @example
 * ```ts
 * const { state } = await service.status();
 * if (state === 'not-installed') await service.install();
 * if (state !== 'running') await service.start();
 * ```
 */
export const service: DriverService = {
  async install(options = {}) {
    const { sysPath, ...config } = check(installSchema, options, 'service.install');
    const control = requireControl();
    const path = sysPath ?? check(pathSchema, packagedDriver(), "The path of the package's driver");
    await control.install({ ...config, path });
  },
  async start(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.start');
    await requireControl().start(name, { signal: undefined, ...limit });
  },
  async stop(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.stop');
    await requireControl().stop(name, { signal: undefined, ...limit });
  },
  async remove(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.remove');
    await requireControl().remove(name, { signal: undefined, ...limit });
  },
  async status(options = {}) {
    const { name } = check(serviceSchema, options, 'service.status');
    return requireControl().status(name);
  },
};
