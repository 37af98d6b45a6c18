// A Wine prefix of our own: a Windows with the simulation's drivers in it, that ends with us.
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
      WINEDLLOVERRIDES: 'ndis.sys=n',
      NETVERDICT_COMPUTER: 'wine',
    };
    delete this.#env.DISPLAY;
  }

  /** A folder of the prefix, below drive C. */
  folder(...names) {
    return join(this.#path, 'drive_c', ...names);
  }

  /** Makes the prefix anew. */
  async create() {
    rmSync(this.#path, { recursive: true, force: true });
    mkdirSync(this.#path, { recursive: true });
    await this.#must('wineboot', ['-i']);
    await this.#must(WINE, ['winecfg', '-v', 'win10']);
    // What comes next has a Windows of its own: this one is about to end.
    await this.#must('wineserver', ['-w']);
  }

  copyDriver(path, name) {
    copyFileSync(path, this.folder('windows', 'system32', 'drivers', name));
  }

  /** Wine ends drivers soon after its last program: `program` is one that stays. */
  keepAlive(program) {
    this.#keepAlive = spawn(WINE, [program], { env: this.#env, stdio: 'ignore' });
  }

  /** Runs a Windows program: `{code, output}`. Its output goes through a file, as Node.js refuses pipes there. */
  async run(program, args, limitMs = 60_000, variables = {}) {
    return this.#start(WINE, [program, ...args], limitMs, variables);
  }

  /** The command lines of what runs in the prefix. */
  processes() {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((id) => {
        try {
          const environment = readFileSync(`/proc/${id}/environ`, 'utf8').split('\0');
          if (!environment.includes(`WINEPREFIX=${this.#path}`)) return [];
          return [readFileSync(`/proc/${id}/cmdline`, 'utf8').replaceAll('\0', ' ')];
        } catch {
          return []; // ended meanwhile
        }
      })
      .filter((commandLine) => commandLine !== '');
  }

  /** Ends everything that runs in the prefix. */
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

  /** Not synchronously: a signal to this process is to be heard meanwhile. */
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

/** A path of this computer's as Windows programs in Wine have it. */
export function windowsPath(path) {
  return `Z:${path.replaceAll('/', '\\')}`;
}
