/** Requests to the service control manager, and waits for the states that they lead to. @internal */

import { setTimeout as delay } from 'node:timers/promises';
import type { NativeService, NativeServiceConfig, NativeServiceResult } from '../addon/native.cjs';
import { TimeoutError } from '../base/errors.js';
import { Win32, serviceError } from './service_errors.js';
import type { ServiceStartType, ServiceState, ServiceStatus } from './service_status.js';

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
  readonly signal: AbortSignal | undefined;
}

export interface ServiceConfig {
  readonly name: string;
  readonly displayName: string;
  readonly path: string;
  readonly startType: ServiceStartType;
}

/** The work of the public functions, with checked arguments. */
export class ServiceControl {
  readonly #native: NativeService;

  constructor(native: NativeService) {
    this.#native = native;
  }

  async install(config: ServiceConfig): Promise<void> {
    const native: NativeServiceConfig = {
      ...config,
      startType: START_TYPES.indexOf(config.startType),
    };
    this.#require(await this.#native.install(native), `Installing the service ${config.name}`);
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
    const { state } = await this.status(name);
    if (state !== 'stopped' && state !== 'not-installed') {
      await this.#stop(name, limit, what, Win32.ServiceNotActive);
    }
    await limited(limit, `${what}: it is marked for deletion, but in use`, async (signal) => {
      this.#require(await this.#native.remove(name), what);
      await this.#until(name, signal, (status) => status.state === 'not-installed');
    });
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
