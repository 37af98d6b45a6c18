// Shared code of the programs in this folder: the network beneath the driver, and the installed package.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const remoteNetwork = process.env.NETVERDICT_REMOTE_NETWORK;
const { RemoteNetwork } = await import(remoteNetwork);
const { ipPacket } = await import(new URL('../support/packets.js', remoteNetwork));

const REMOTE = Uint8Array.of(192, 0, 2, 1);
const LOCAL = Uint8Array.of(10, 0, 0, 2);
const TCP = 6;
const OUTBOUND = 0;
const LIMIT_MS = 60_000;

let nextPort = 50_000;

/** Opens the network beneath the driver, and closes it when `use` has run. */
export async function withNetwork(use) {
  const network = RemoteNetwork.open();
  try {
    return await use(network);
  } finally {
    network.close();
  }
}

/** Connects an application: returns `{id, outcome}`. */
export function connect(network, remotePort, payload) {
  let settle;
  const outcome = new Promise((resolve) => {
    settle = resolve;
  });
  const spec = {
    processId: 4242,
    processPath: String.raw`\device\harddiskvolume1\app.exe`,
    protocol: TCP,
    localAddress: LOCAL,
    localPort: nextPort++,
    remoteAddress: REMOTE,
    remotePort,
    ...(payload === undefined ? {} : { payload }),
  };
  const id = network.connect(spec, ({ kind }) => settle(kind));
  return { id, outcome: within(outcome, `the outcome of port ${remotePort}`) };
}

/** Sends a packet without a connection: returns its outcome. */
export function packet(network) {
  const bytes = ipPacket({
    source: LOCAL.join('.'),
    destination: REMOTE.join('.'),
    protocol: 'udp',
    sourcePort: nextPort++,
    destinationPort: 53,
  });
  const outcome = new Promise((resolve) => {
    network.packet(OUTBOUND, bytes, ({ kind }) => resolve(kind));
  });
  return within(outcome, 'the outcome of the packet');
}

/** Runs a program in this Node.js. Its output goes to files, because Node.js refuses pipes under Wine. */
export async function runToEnd(args, env = process.env) {
  const folder = mkdtempSync(join(tmpdir(), 'netverdict-'));
  const paths = ['stdout', 'stderr'].map((name) => join(folder, name));
  const files = paths.map((path) => openSync(path, 'w'));
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', ...files] });
  const [code] = await within(once(child, 'exit'), `the end of ${args.join(' ')}`).finally(() =>
    child.kill(),
  );
  files.forEach((file) => closeSync(file));
  const [stdout, stderr] = paths.map((path) => readFileSync(path, 'utf8'));
  rmSync(folder, { recursive: true, force: true });
  return { code, stdout, stderr };
}

/** Rejects with `what` if the promise does not settle in time. */
export async function within(promise, what) {
  const abort = new AbortController();
  const limit = delay(LIMIT_MS, undefined, { signal: abort.signal }).then(() => {
    throw new Error(`${what} did not come within ${LIMIT_MS} ms`);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    abort.abort();
    limit.catch(() => undefined);
  }
}

/** Resolves once the file of another program exists. */
export async function fileAppears(path) {
  for (const end = performance.now() + LIMIT_MS; !existsSync(path); await delay(20)) {
    if (performance.now() > end) throw new Error(`${path} did not appear within ${LIMIT_MS} ms`);
  }
}
