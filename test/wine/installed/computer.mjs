// What the programs of this folder share: the computer beneath the driver, and the package as an application has it.
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const { RemoteNetwork } = await import(process.env.NETVERDICT_REMOTE_NETWORK);

const REMOTE = Uint8Array.of(192, 0, 2, 1);
const LOCAL = Uint8Array.of(10, 0, 0, 2);
const TCP = 6;
const LIMIT_MS = 20_000;

let nextPort = 50_000;

/** The network beneath the driver, until `use` has run. */
export async function withNetwork(use) {
  const network = RemoteNetwork.open();
  try {
    return await use(network);
  } finally {
    network.close();
  }
}

/** An application connects: `{id, outcome}`. */
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

/** Rejects with what did not come in time. */
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

/** Until a file of another program is there. */
export async function fileAppears(path) {
  for (const end = performance.now() + LIMIT_MS; !existsSync(path); await delay(20)) {
    if (performance.now() > end) throw new Error(`${path} did not appear within ${LIMIT_MS} ms`);
  }
}
