/** Requests to the service control manager, and waits for the states that they lead to. @internal */

import { setTimeout as delay } from 'node:timers/promises';
import type { NativeService, NativeServiceConfig, NativeServiceResult } from '../addon/native.cjs';
import {
  BusyError,
  DriverRefusedError,
  InvalidArgumentError,
  ServiceStateError,
  TimeoutError,
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
  /** Asks the running driver for its version. Rejects with a {@link BusyError} if a client has its device open. */
  readonly ask: () => Promise<void>;
}

interface Replacement extends Omit<UpdateRequest, 'source'> {
  readonly path: string;
  readonly isRunning: boolean;
}

interface Undo extends Omit<Replacement, 'ask'> {
  readonly old: string;
  readonly cause: unknown;
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
    try {
      this.#require(await this.#native.install(config), what);
    } catch (error) {
      await this.#native.deleteDriver(path);
      throw error;
    }
    return path;
  }

  /** Makes the driver at `source` the service's driver, if it is newer. */
  async update({ name, source, ask }: UpdateRequest, limit: WaitLimit): Promise<UpdateResult> {
    const what = `Updating the service ${name}`;
    const before = await this.status(name);
    const old = this.#replaceable(before, what);
    const comparison = this.#compare(source, old, what);
    if (comparison !== 'older') {
      return comparison === 'same' ? 'unchanged' : 'newer-kept';
    }
    const isRunning = before.state !== 'stopped';
    if (isRunning && (await answerOf(ask)) === 'busy') {
      throw new BusyError(
        `${what}: a program has the driver's device open. Close that program, and update again.`,
      );
    }
    const path = await this.#copy(source, name, what);
    try {
      if (this.#compare(path, old, what) !== 'older') {
        throw new DriverRefusedError(
          `${what}: ${source} changed while it was copied. Update again.`,
        );
      }
      if (isRunning) {
        await this.#stop(name, limit, what, Win32.ServiceNotActive);
      }
    } catch (error) {
      await this.#native.deleteDriver(path);
      throw error;
    }
    try {
      await this.#use({ name, path, isRunning, ask }, limit, what);
    } catch (cause) {
      throw await this.#putBack({ name, path, old, isRunning, cause }, limit, what);
    }
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

  /** Makes the driver at `path` the service's driver, and sees it answer. A service that did not run stops again. */
  async #use({ name, path, isRunning, ask }: Replacement, limit: WaitLimit, what: string) {
    this.#require(await this.#native.setPath(name, path), what);
    await this.start(name, limit);
    const answer = await answerOf(ask);
    if (answer !== 'free' && answer !== 'busy') {
      throw answer;
    }
    if (!isRunning) {
      await this.stop(name, limit);
    }
  }

  /** Undoes an update, also one whose signal is aborted. Returns the error that reports it. */
  async #putBack(
    { name, path, old, isRunning, cause }: Undo,
    { timeoutMs, signal }: WaitLimit,
    what: string,
  ): Promise<unknown> {
    try {
      if ((await this.status(name)).state !== 'stopped') {
        await this.#stop(name, { timeoutMs }, what, Win32.ServiceNotActive);
      }
      this.#require(await this.#native.setPath(name, old), what);
      if (isRunning) {
        await this.start(name, { timeoutMs });
      }
    } catch (problem) {
      return new DriverRefusedError(
        `${what}: the new driver does not run, and the old one could not be put back. ` +
          `Remove the service and install it again. ${messageOf(cause)} ${messageOf(problem)}`,
        { cause },
      );
    }
    await this.#native.deleteDriver(path);
    return signal?.aborted === true
      ? signal.reason
      : new DriverRefusedError(
          `${what}: the new driver does not run, and the old one is back. ${messageOf(cause)}`,
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

/** Whether the running driver is free or has a client, or the error with which it does not answer. */
async function answerOf(ask: () => Promise<void>): Promise<'free' | 'busy' | Error> {
  try {
    await ask();
    return 'free';
  } catch (error) {
    return error instanceof BusyError ? 'busy' : (error as Error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
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
