/**
 * The addon under concurrent load, for ThreadSanitizer: several computers in several threads of JavaScript.
 * Their native threads carry packets, read, and end while the others run. Every outcome of a packet is accepted.
 */

import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';
import { ClosedError, createSimulator, DriverShutdownError, Verdict } from '../../dist/index.mjs';

const CAPTURE = fileURLToPath(new URL('../../captures/host-traffic.pcap', import.meta.url));
const LIVES = 4; // computers in each thread, one after the other
const CLIENTS = 3; // clients of each computer, one after the other
const AT_ONCE = 2;
const VERDICTS = [Verdict.Accept, Verdict.PermanentAccept, Verdict.Block, Verdict.RedirectTunnel];

/** Ignores the errors of work that the end of a computer interrupts. */
function unlessEnded(error) {
  if (!(error instanceof ClosedError || error instanceof DriverShutdownError)) throw error;
}

async function decide(device) {
  let decided = 0;
  for await (const event of device) {
    if (event.type === 'connection') device.setVerdict(event.id, VERDICTS[decided++ % 4]);
  }
}

async function load(network) {
  for (const protocol of ['tcp', 'udp']) {
    await network.load({ connections: 200, inFlight: 20, protocol, packetsPerConnection: 2 });
  }
}

async function flows(network) {
  for (let n = 1; n <= 50; n++) {
    const remote = { address: '198.51.100.1', port: n };
    const flow = network.connect({ processId: n, protocol: n % 2 === 0 ? 'tcp' : 'udp', remote });
    await flow.outcome;
    await flow.send(new Uint8Array(500));
    flow.close();
  }
}

async function commands(device) {
  for (let n = 0; n < 20; n++) {
    await Promise.all([device.getLogs(), device.getBandwidth(), device.cleanEndedConnections()]);
    device.clearCache();
    await device.getStatistics();
  }
}

/** Runs client after client; those of every second computer end under load, as the computer does. */
async function live(number) {
  const options = { pendingTimeoutMs: 200 };
  const simulator = await createSimulator(options);
  const { network } = simulator;
  const endsEarly = number % 2 === 1;
  const working = [
    load(network),
    flows(network),
    network.replay(CAPTURE, { local: ['10.77.0.2', 'fd77::2'] }),
  ].map((work) => work.catch(unlessEnded));
  let { device } = simulator;
  for (let client = 1; client <= CLIENTS; client++) {
    const deciding = decide(device).catch(unlessEnded);
    const commanding = commands(device).catch(unlessEnded);
    if (!endsEarly && client === CLIENTS) await Promise.all(working);
    await commanding;
    if (number % 4 < 2) await device.shutdown();
    await (client === CLIENTS ? simulator : device).close();
    await Promise.all([deciding, commanding]);
    if (client < CLIENTS) device = await simulator.open(options);
  }
  await Promise.all(working);
}

async function liveAgain() {
  for (let number = 0; number < LIVES; number++) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => live(number + index)));
  }
}

/** Starts a worker that is terminated at any time, and one that runs to its end. */
async function startWorkers() {
  const ended = (worker) => new Promise((resolve) => worker.once('exit', resolve));
  const terminated = new Worker(new URL(import.meta.url));
  const whole = new Worker(new URL(import.meta.url));
  await new Promise((resolve) => terminated.once('message', resolve));
  await terminated.terminate();
  const code = await ended(whole);
  if (code !== 0) throw new Error(`the worker ended with ${code}`);
}

if (isMainThread) {
  await Promise.all([liveAgain(), startWorkers()]);
  console.log('all lives have ended');
} else {
  const { parentPort } = await import('node:worker_threads');
  const first = live(1);
  parentPort.postMessage('started');
  await first;
  await liveAgain();
}
