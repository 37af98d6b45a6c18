import type {
  NativeService,
  NativeServiceResult,
  NativeServiceStatus,
} from '../../../lib/addon/native.cjs';

export const Scm = { Stopped: 1, StartPending: 2, StopPending: 3, Running: 4 } as const;

/** The path of the copy of each driver. */
export const COPY = 'C:\\windows\\system32\\drivers\\netverdict\\X.sys';

const SUCCESS: NativeServiceResult = { code: 0, call: '' };

/** The answers of the service control manager in a test. */
export interface ServiceScript {
  /** The result of every request except queries. */
  readonly result?: NativeServiceResult;
  /** The result of stop requests, if it differs. */
  readonly stopResult?: NativeServiceResult;
  /** The result of install requests, if it differs. */
  readonly installResult?: NativeServiceResult;
  /** The result of copy requests, if it differs. */
  readonly copyResult?: NativeServiceResult;
  /** The results of queries in order; the last one repeats. A number is an error. */
  readonly states?: readonly (Partial<NativeServiceStatus> | number)[];
  readonly testSigning?: boolean;
  /** The versions of files by path. A copy has that of its source, if it has none here. */
  readonly versions?: Readonly<Record<string, string>>;
  /** The results of start requests in order; the last one repeats. */
  readonly startResults?: readonly NativeServiceResult[];
  /** Requests that never end. */
  readonly hangs?: boolean;
}

/** Stands in for the Windows service control manager: it plays a script and records the requests. */
export class ScriptedService implements NativeService {
  readonly requests: unknown[][] = [];
  /** Sees each request before its result. */
  onRequest: (request: readonly unknown[]) => void = () => undefined;
  readonly #script: ServiceScript;
  #copied = '';
  #starts = 0;
  readonly #states: (Partial<NativeServiceStatus> | number)[];

  constructor(script: ServiceScript = {}) {
    this.#script = script;
    this.#states = [...(script.states ?? [{ state: Scm.Stopped }])];
  }

  install(...args: unknown[]) {
    return this.#request('install', args);
  }

  async start(...args: unknown[]) {
    const result = await this.#request('start', args);
    const results = this.#script.startResults;
    return results?.[Math.min(this.#starts++, results.length - 1)] ?? result;
  }

  setPath(...args: unknown[]) {
    return this.#request('setPath', args);
  }

  deleteDriver(...args: unknown[]) {
    return this.#request('deleteDriver', args);
  }

  async copyDriver(...args: unknown[]) {
    const result = await this.#request('copyDriver', args);
    this.#copied = String(args[0]);
    return { ...(this.#script.copyResult ?? result), path: COPY };
  }

  versionOf(path: string) {
    const versions = this.#script.versions ?? {};
    return versions[path] ?? (path === COPY ? versions[this.#copied] : undefined);
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
    this.onRequest([name, ...args]);
    if (this.#script.hangs === true) return new Promise(() => undefined);
    const { result = SUCCESS, stopResult = result, installResult = result } = this.#script;
    if (name === 'install') return Promise.resolve(installResult);
    return Promise.resolve(name === 'stop' ? stopResult : result);
  }
}
