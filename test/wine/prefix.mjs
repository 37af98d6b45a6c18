// A Wine prefix for one run: a Windows with the simulation's drivers, which ends with this process.
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';

const WINE = '/usr/lib/wine/wine64';
const START_LIMIT_MS = 120_000;

export class WinePrefix {
  #path;
  #env;
  #keepAlive;

  constructor(path) {
    this.#path = path;
    this.#env = {
      ...process.env,
      WINEPREFIX: path,
      WINEARCH: 'win64',
      WINEDEBUG: process.env.WINEDEBUG ?? '-all',
      WINEDLLOVERRIDES: 'ndis.sys,netio.sys=n',
      NETVERDICT_COMPUTER: 'wine',
    };
    delete this.#env.DISPLAY;
  }

  /** Returns a folder of the prefix, below drive C. */
  folder(...names) {
    return join(this.#path, 'drive_c', ...names);
  }

  /** Creates the prefix again. */
  async create() {
    rmSync(this.#path, { recursive: true, force: true });
    mkdirSync(this.#path, { recursive: true });
    await this.#must('wineboot', ['-i']);
    await this.#must(WINE, ['winecfg', '-v', 'win10']);
    // The next program starts a new wineserver, so this one must have ended.
    await this.#must('wineserver', ['-w']);
  }

  copyDriver(path, name) {
    copyFileSync(path, this.folder('windows', 'system32', 'drivers', name));
  }

  /** Starts `program`, which runs on: Wine ends drivers soon after its last program ends. */
  keepAlive(program) {
    this.#keepAlive = spawn(WINE, [program], { env: this.#env, stdio: 'ignore' });
  }

  /** Runs a Windows program: `{code, output}`. Its output goes to a file, because Node.js refuses pipes there. */
  async run(program, args, limitMs = 60_000, variables = {}) {
    return this.#start(WINE, [program, ...args], limitMs, variables);
  }

  /**
   * Lets the reads of base clients pend in a service's driver, from its next start on. Wine dispatches one request
   * at a time, so a read that waits in the driver would keep out every other request, also the client's own.
   */
  async letBaseReadsPend(service) {
    const key = `HKLM\\SYSTEM\\CurrentControlSet\\Services\\${service}\\Parameters`;
    const value = ['/v', 'BaseReadsPend', '/t', 'REG_DWORD', '/d', '1', '/f'];
    await this.#must(WINE, ['reg', 'add', key, ...value]);
  }

  /** Returns the command lines of the processes in the prefix. */
  processes() {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((id) => {
        try {
          const environment = readFileSync(`/proc/${id}/environ`, 'utf8').split('\0');
          if (!environment.includes(`WINEPREFIX=${this.#path}`)) return [];
          return [readFileSync(`/proc/${id}/cmdline`, 'utf8').replaceAll('\0', ' ')];
        } catch {
          return []; // the process has ended
        }
      })
      .filter((commandLine) => commandLine !== '');
  }

  /** Ends all processes in the prefix. */
  end() {
    spawnSync('wineserver', ['-k'], this.#options());
    spawnSync('wineserver', ['-w'], this.#options(20_000));
    this.#keepAlive?.kill();
  }

  #options(timeout = START_LIMIT_MS) {
    return { env: this.#env, timeout, killSignal: 'SIGKILL' };
  }

  async #must(program, args) {
    const { code, output } = await this.#start(program, args, START_LIMIT_MS);
    if (code !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${code}\n${output}`);
  }

  /** Asynchronous, so that this process can handle signals meanwhile. */
  async #start(program, args, limitMs, variables = {}) {
    const log = join(this.#path, 'output.txt');
    const output = openSync(log, 'w');
    const child = spawn(program, args, {
      ...this.#options(limitMs),
      env: { ...this.#env, ...variables },
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    const code = await new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('exit', (status, signal) => resolve(status ?? signal));
    });
    return { code, output: readFileSync(log, 'utf8') };
  }
}

/** Returns the path by which Windows programs in Wine reach a path of this computer. */
export function windowsPath(path) {
  return `Z:${path.replaceAll('/', '\\')}`;
}
