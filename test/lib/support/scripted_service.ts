import type {
  NativeService,
  NativeServiceResult,
  NativeServiceStatus,
} from '../../../lib/addon/native.cjs';

export const Scm = { Stopped: 1, StartPending: 2, StopPending: 3, Running: 4 } as const;

const SUCCESS: NativeServiceResult = { code: 0, call: '' };

/** The answers of the service control manager in a test. */
export interface ServiceScript {
  /** The result of every request except queries. */
  readonly result?: NativeServiceResult;
  /** The result of stop requests, if it differs. */
  readonly stopResult?: NativeServiceResult;
  /** The results of queries in order; the last one repeats. A number is an error. */
  readonly states?: readonly (Partial<NativeServiceStatus> | number)[];
  readonly testSigning?: boolean;
  /** Requests that never end. */
  readonly hangs?: boolean;
}

/** Stands in for the Windows service control manager: it plays a script and records the requests. */
export class ScriptedService implements NativeService {
  readonly requests: unknown[][] = [];
  readonly #script: ServiceScript;
  readonly #states: (Partial<NativeServiceStatus> | number)[];

  constructor(script: ServiceScript = {}) {
    this.#script = script;
    this.#states = [...(script.states ?? [{ state: Scm.Stopped }])];
  }

  install(...args: unknown[]) {
    return this.#request('install', args);
  }

  start(...args: unknown[]) {
    return this.#request('start', args);
  }

  stop(...args: unknown[]) {
    return this.#request('stop', args);
  }

  remove(...args: unknown[]) {
    return this.#request('remove', args);
  }

  query(): Promise<NativeServiceStatus> {
    const next = this.#states.length > 1 ? this.#states.shift()! : this.#states[0]!;
    const found = typeof next === 'number' ? { code: next, call: 'OpenServiceW' } : next;
    return Promise.resolve({
      ...SUCCESS,
      state: 0,
      exitCode: 0,
      startType: 3,
      path: '\\??\\C:\\drivers\\netverdict.sys',
      ...found,
    });
  }

  isTestSigningOn() {
    return this.#script.testSigning;
  }

  #request(name: string, args: unknown[]): Promise<NativeServiceResult> {
    this.requests.push([name, ...args]);
    if (this.#script.hangs === true) return new Promise(() => undefined);
    const { result = SUCCESS, stopResult = result } = this.#script;
    return Promise.resolve(name === 'stop' ? stopResult : result);
  }
}
