/** The driver as a Windows service: install, start, stop and remove it. */

import { join, win32 } from 'node:path';
import { requireBinding } from '../addon/binding.js';
import {
  check,
  choice,
  integer,
  object,
  optional,
  signalSchema,
  text,
  withDefault,
  type Schema,
} from '../base/checks.js';
import { UnsupportedError } from '../base/errors.js';
import { deviceNameSchema } from '../device/device_name.js';
import { ServiceControl } from './service_control.js';
import { probe } from '../device/windows.js';
import type { ServiceStartType, ServiceStatus, UpdateResult } from './service_status.js';

/** The options of every call: which service it controls. */
export interface ServiceOptions {
  /**
   * The name of the service and of its device `\\.\<name>`; `'NetVerdict'` by default.
   * Up to 128 letters, digits, `_` and `-`, but not the name of a Windows device.
   */
  readonly name?: string;
}

/** Options for the calls that wait for the driver. */
export interface WaitOptions extends ServiceOptions {
  /** Milliseconds until a {@link TimeoutError}; 30000 by default. Windows may still complete the request later. */
  readonly timeoutMs?: number;
  /** Ends the wait, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options for {@link DriverService.install}. */
export interface InstallOptions extends ServiceOptions {
  /** The driver's file on a local disk; by default the one in this package. It is copied. */
  readonly sysPath?: string;
  /** The name that services.msc shows; `'netverdict network filter'` by default. */
  readonly displayName?: string;
  /** When Windows starts the driver; by default `'demand'`: only {@link DriverService.start} starts it. */
  readonly startType?: ServiceStartType;
}

/** Options for {@link DriverService.update}. */
export interface UpdateOptions extends WaitOptions {
  /** The new driver's file on a local disk; by default the one in this package. It is copied. */
  readonly sysPath?: string;
}

/** The driver's file that a service has. */
export interface InstalledDriver {
  /** The path of the copy. Its owner, its access list and those of its folders let only administrators write. */
  readonly path: string;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 0x7fff_ffff;
const MAX_DISPLAY_NAME_LENGTH = 256;

/** The kernel itself opens the file, so the path must be a plain one on a local disk. */
const pathSchema: Schema<string> = (value, place) => {
  if (typeof value !== 'string' || value === '' || /[\0"]/.test(value)) {
    return place.report('must be a path');
  }
  const path = win32.resolve(value);
  return /^[A-Za-z]:\\/.test(path)
    ? path
    : place.report("must be on a disk of this computer: 'C:\\…'");
};

const serviceSchema = object({ name: deviceNameSchema });

const waitShape = {
  name: deviceNameSchema,
  timeoutMs: withDefault(integer(1, MAX_TIMEOUT_MS), DEFAULT_TIMEOUT_MS),
  signal: optional(signalSchema),
};
const waitSchema = object(waitShape);

const updateSchema = object({ ...waitShape, sysPath: optional(pathSchema) });

const installSchema = object({
  name: deviceNameSchema,
  sysPath: optional(pathSchema),
  displayName: withDefault(text(1, MAX_DISPLAY_NAME_LENGTH), 'netverdict network filter'),
  startType: withDefault(choice(['demand', 'system', 'auto']), 'demand'),
});

/** The path of this package's driver for this computer. */
function packagedDriver(): string {
  return join(__dirname, '..', '..', 'prebuilds', `win32-${process.arch}`, 'netverdict.sys');
}

function sourceOf(sysPath: string | undefined): string {
  return sysPath ?? check(pathSchema, packagedDriver(), "The path of the package's driver");
}

function requireControl(): ServiceControl {
  if (process.platform !== 'win32') {
    throw new UnsupportedError(
      `The driver is for Windows: there is no service to control on ${process.platform}. ` +
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

/** The interface of {@link service}, which controls the driver's service. */
export interface DriverService {
  /**
   * Copies the driver to `system32\drivers\netverdict`, and registers the copy without starting it.
   *
   * Only administrators may write the copy: whoever could write it would own the computer.
   * Owner and access list of the copy and of its folders are checked before it is registered.
   *
   * @throws {@link AccessDeniedError} without administrator rights.
   * @throws {@link ServiceStateError} when a service of the name exists.
   * @throws {@link NotFoundError} when the driver's file does not exist.
   * @throws {@link DriverRefusedError} when others than administrators may write the copy.
   * @throws {@link InvalidArgumentError} for an invalid option, or a path that is a folder.
   */
  install(options?: InstallOptions): Promise<InstalledDriver>;
  /**
   * Replaces the driver by a newer one: stops it, and starts a copy of the new one if the old one ran.
   *
   * A driver of the same or a later version stays. If the new driver does not start and answer, the old one comes back.
   * While a program has the driver's device open, nothing is changed.
   *
   * @throws {@link BusyError} while a program has the driver's device open.
   * @throws {@link AccessDeniedError} without administrator rights.
   * @throws {@link NotFoundError} when the service is not installed, or the new file does not exist.
   * @throws {@link InvalidArgumentError} for an invalid option, or a file that is no driver.
   * @throws {@link ServiceStateError} when an INF has installed the driver.
   * @throws {@link DriverRefusedError} when the new driver does not run, or others than administrators may write it.
   * @throws {@link TimeoutError} when a program opens the device meanwhile, so that the old driver is not unloaded in time.
   * It unloads with the last such program. The service must then be started again.
   * @example
   * ```ts
   * if ((await service.status()).state === 'not-installed') await service.install();
   * else await service.update();
   * ```
   */
  update(options?: UpdateOptions): Promise<UpdateResult>;
  /**
   * Loads the driver, and waits until it runs.
   *
   * @throws {@link AccessDeniedError} without administrator rights.
   * @throws {@link NotFoundError} when the service is not installed, or its file is missing.
   * @throws {@link ServiceStateError} when the service already runs, or the filter engine (the service BFE) does not.
   * @throws {@link DriverRefusedError} for a driver that is unsigned, blocked by a policy, or for another processor.
   * @throws {@link TimeoutError} when the driver does not run in time.
   */
  start(options?: WaitOptions): Promise<void>;
  /**
   * Unloads the driver, and waits until it is unloaded. It stays loaded while a program has its device open.
   *
   * @throws {@link AccessDeniedError} without administrator rights.
   * @throws {@link NotFoundError} when the service is not installed.
   * @throws {@link ServiceStateError} when the service does not run.
   * @throws {@link TimeoutError} when the driver is not unloaded in time.
   */
  stop(options?: WaitOptions): Promise<void>;
  /**
   * Stops the driver if it runs, removes the service and the copy of the driver, and waits until its name is free.
   *
   * @throws {@link AccessDeniedError} without administrator rights.
   * @throws {@link NotFoundError} when the service is not installed.
   * @throws {@link TimeoutError} while a program uses the service. Windows removes it after the last such program.
   */
  remove(options?: WaitOptions): Promise<void>;
  /** Reads the status of the service. Needs no administrator rights. */
  status(options?: ServiceOptions): Promise<ServiceStatus>;
}

/**
 * The driver's service on this computer.
 *
 * On other systems than Windows every function rejects with an {@link UnsupportedError}.
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
    return { path: await control.install({ ...config, source: sourceOf(sysPath) }) };
  },
  async update(options = {}) {
    const { name, sysPath, ...limit } = check(updateSchema, options, 'service.update');
    const ask = (): Promise<void> => probe(name);
    return requireControl().update({ name, source: sourceOf(sysPath), ask }, limit);
  },
  async start(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.start');
    await requireControl().start(name, limit);
  },
  async stop(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.stop');
    await requireControl().stop(name, limit);
  },
  async remove(options = {}) {
    const { name, ...limit } = check(waitSchema, options, 'service.remove');
    await requireControl().remove(name, limit);
  },
  async status(options = {}) {
    const { name } = check(serviceSchema, options, 'service.status');
    return requireControl().status(name);
  },
};
