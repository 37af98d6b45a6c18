/** Requests to the service control manager, and waits for the states that they lead to. @internal */

import { setTimeout as delay } from 'node:timers/promises';
import type { NativeService, NativeServiceConfig, NativeServiceResult } from '../addon/native.cjs';
import {
  DriverRefusedError,
  InvalidArgumentError,
  ServiceStateError,
  TimeoutError,
  type NetVerdictError,
} from '../base/errors.js';
import { Win32, serviceError } from './service_errors.js';
import type {
  ServiceStartType,
  ServiceState,
  ServiceStatus,
  UpdateResult,
} from './service_status.js';

const POLL_INTERVAL_MS = 20;

/** The states by their Windows values: SERVICE_STOPPED is 1. */
const STATES: Readonly<Record<number, ServiceState>> = {
  1: 'stopped',
  2: 'start-pending',
  3: 'stop-pending',
  4: 'running',
  5: 'continue-pending',
  6: 'pause-pending',
  7: 'paused',
};

/** The start types by their Windows values: SERVICE_BOOT_START is 0. */
const START_TYPES = ['boot', 'system', 'auto', 'demand', 'disabled'] as const;

export interface WaitLimit {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ServiceConfig {
  readonly name: string;
  readonly displayName: string;
  /** The file to copy. */
  readonly source: string;
  readonly startType: ServiceStartType;
}

export interface UpdateRequest {
  readonly name: string;
  /** The new driver's file. */
  readonly source: string;
  /** Rejects if the running driver does not answer. */
  readonly answers: () => Promise<void>;
}

/** The work of the public functions, with checked arguments. */
export class ServiceControl {
  readonly #native: NativeService;

  constructor(native: NativeService) {
    this.#native = native;
  }

  /** Copies the driver and registers the copy. Returns its path. */
  async install({ name, displayName, source, startType }: ServiceConfig): Promise<string> {
    const what = `Installing the service ${name}`;
    const path = await this.#copy(source, name, what);
    const config: NativeServiceConfig = {
      name,
      displayName,
      path,
      startType: START_TYPES.indexOf(startType),
    };
    await this.#orDelete(path, async () => {
      this.#require(await this.#native.install(config), what);
    });
    return path;
  }

  /**
   * Makes the driver at `source` the service's driver, if it is newer.
   *
   * `answers` rejects if the running driver does not answer. The old driver is then put back.
   */
  async update({ name, source, answers }: UpdateRequest, limit: WaitLimit): Promise<UpdateResult> {
    const what = `Updating the service ${name}`;
    const before = await this.status(name);
    const old = this.#replaceable(before, what);
    const comparison = this.#compare(source, old, what);
    if (comparison !== 'older') {
      return comparison === 'same' ? 'unchanged' : 'newer-kept';
    }
    const path = await this.#copy(source, name, what);
    const isRunning = before.state !== 'stopped';
    await this.#orDelete(path, async () => {
      if (isRunning) {
        await this.#stop(name, limit, what, Win32.ServiceNotActive);
      }
      try {
        await this.#use(name, path, limit, what);
        await answers();
      } catch (cause) {
        throw await this.#putBack(name, old, isRunning, limit, what, cause);
      }
      if (!isRunning) {
        await this.stop(name, limit);
      }
    });
    await this.#native.deleteDriver(old);
    return 'updated';
  }

  async start(name: string, limit: WaitLimit): Promise<void> {
    const what = `Starting the service ${name}`;
    await limited(limit, `${what}: the driver does not start`, async (signal) => {
      this.#require(await this.#native.start(name), what);
      await this.#until(name, signal, ({ state, exitCode = Win32.Success }) => {
        if (state === 'stopped') {
          this.#require({ code: exitCode || Win32.ServiceNotActive, call: 'DriverEntry' }, what);
        }
        return state === 'running';
      });
    });
  }

  async stop(name: string, limit: WaitLimit): Promise<void> {
    await this.#stop(name, limit, `Stopping the service ${name}`);
  }

  /** Stops the service first if it runs. */
  async remove(name: string, limit: WaitLimit): Promise<void> {
    const what = `Removing the service ${name}`;
    const { state, path } = await this.status(name);
    if (state !== 'stopped' && state !== 'not-installed') {
      await this.#stop(name, limit, what, Win32.ServiceNotActive);
    }
    await limited(limit, `${what}: it is marked for deletion, but in use`, async (signal) => {
      this.#require(await this.#native.remove(name), what);
      await this.#until(name, signal, (status) => status.state === 'not-installed');
    });
    if (path !== undefined) {
      await this.#native.deleteDriver(path);
    }
  }

  async status(name: string): Promise<ServiceStatus> {
    const status = await this.#native.query(name);
    if (status.code === Win32.ServiceDoesNotExist) {
      return { name, state: 'not-installed' };
    }
    this.#require(status, `Querying the service ${name}`);
    return {
      name,
      state: STATES[status.state] ?? 'stopped',
      startType: START_TYPES[status.startType] ?? 'demand',
      path: status.path.replace(/^\\\?\?\\/, ''),
      exitCode: status.exitCode,
    };
  }

  async #copy(source: string, name: string, what: string): Promise<string> {
    const copied = await this.#native.copyDriver(source, name);
    this.#require(copied, what);
    return copied.path;
  }

  /** Deletes the copy at `path` if `work` fails. */
  async #orDelete(path: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.#native.deleteDriver(path);
      throw error;
    }
  }

  /** The path of the driver to replace. */
  #replaceable({ name, path }: ServiceStatus, what: string): string {
    if (path === undefined) {
      throw serviceError({ code: Win32.ServiceDoesNotExist, call: 'OpenServiceW' }, what);
    }
    if (/\\DriverStore\\/i.test(path)) {
      throw new ServiceStateError(
        `${what}: Windows keeps the driver of ${name} in its driver store. Update it there: 'pnputil /add-driver'.`,
      );
    }
    return path;
  }

  /** How the installed driver compares with the one at `source`. One without a version counts as older. */
  #compare(source: string, installed: string, what: string): 'older' | 'same' | 'newer' {
    const given = this.#native.versionOf(source);
    if (given === undefined) {
      throw new InvalidArgumentError(
        `${what}: ${source} is not a file with a version. Give the path of a netverdict.sys.`,
      );
    }
    const difference = compareVersions(this.#native.versionOf(installed) ?? '0', given);
    if (difference === 0) return 'same';
    return difference < 0 ? 'older' : 'newer';
  }

  async #use(name: string, path: string, limit: WaitLimit, what: string): Promise<void> {
    this.#require(await this.#native.setPath(name, path), what);
    await this.start(name, limit);
  }

  /** Undoes an update. Returns the error that reports it. */
  async #putBack(
    name: string,
    old: string,
    isRunning: boolean,
    limit: WaitLimit,
    what: string,
    cause: unknown,
  ): Promise<NetVerdictError> {
    const reason = cause instanceof Error ? cause.message : String(cause);
    try {
      if ((await this.status(name)).state !== 'stopped') {
        await this.#stop(name, limit, what, Win32.ServiceNotActive);
      }
      this.#require(await this.#native.setPath(name, old), what);
      if (isRunning) {
        await this.start(name, limit);
      }
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      return new DriverRefusedError(
        `${what}: the new driver does not run (${reason}), and the old one could not be put back (${problem}).`,
        { cause },
      );
    }
    return new DriverRefusedError(
      `${what}: the new driver does not run, and the old one is back. ${reason}`,
      { cause },
    );
  }

  async #stop(
    name: string,
    limit: WaitLimit,
    what: string,
    allowed: number = Win32.Success,
  ): Promise<void> {
    await limited(limit, `${what}: the driver does not unload`, async (signal) => {
      const result = await this.#native.stop(name);
      if (result.code !== allowed) {
        this.#require(result, what);
      }
      await this.#until(name, signal, ({ state }) => state === 'stopped');
    });
  }

  async #until(
    name: string,
    signal: AbortSignal,
    isReached: (status: ServiceStatus) => boolean,
  ): Promise<void> {
    while (!isReached(await this.status(name))) {
      await delay(POLL_INTERVAL_MS, undefined, { signal });
    }
  }

  #require(result: NativeServiceResult, what: string): void {
    if (result.code !== Win32.Success) {
      throw serviceError(result, what, () => this.#native.isTestSigningOn());
    }
  }
}

/** Compares two versions such as `1.2.3.4`. */
function compareVersions(left: string, right: string): number {
  const numbers = (version: string): number[] => version.split('.').map(Number);
  const [first, second] = [numbers(left), numbers(right)];
  const place = second.findIndex((number, index) => number !== (first[index] ?? 0));
  return place < 0 ? 0 : (first[place] ?? 0) - (second[place] ?? 0);
}

/** Runs `work` until it ends. Its signal is aborted after the timeout, or when the caller's signal is. */
async function limited(
  { timeoutMs, signal }: WaitLimit,
  problem: string,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const timer = setTimeout(() => {
    const hint =
      'Close every program that has its device open, read the System event log, or allow more time';
    controller.abort(new TimeoutError(`${problem} within ${timeoutMs} ms. ${hint}.`));
  }, timeoutMs);
  const onAbort = (): void => {
    controller.abort(signal?.reason);
  };
  signal?.addEventListener('abort', onAbort);
  const ended = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => {
      reject(controller.signal.reason as Error);
    });
  });
  try {
    await Promise.race([work(controller.signal), ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
