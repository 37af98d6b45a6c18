/** The life of one client on one computer: it decides at random over all that goes on there, and ends in some way. */

import { ClosedError, createSimulator, DriverShutdownError, Verdict } from '../../dist/index.mjs';
import { Random } from './random.mjs';
import { pause, unlessOutOfMemory, WORKLOADS } from './workloads.mjs';

const VERDICTS = Object.values(Verdict).filter(
  (verdict) => verdict !== Verdict.Undecided && verdict !== Verdict.Undeterminable,
);

const PATIENCE_MS = 5000;
/** What stays: list heads for the ports that were used, and hash tables at the size that they had. */
const IDLE_GROWTH_ALLOWED = 4 * 1024 * 1024;

/** Accepts mostly, so that connections live. */
function randomPolicy(random) {
  const weights = VERDICTS.map(() => random.below(3));
  const choices = VERDICTS.flatMap((verdict, index) => Array(weights[index]).fill(verdict));
  const accepts = Array(choices.length + 1).fill(Verdict.PermanentAccept);
  return () => random.oneOf([...accepts, ...choices]);
}

async function decide({ device, random, counts }) {
  const verdict = randomPolicy(random);
  const known = new Set();
  let lost = 0n;
  for await (const event of device) {
    counts.events += 1;
    if (event.type === 'lost') lost += event.count;
    if (event.type === 'protocol-error') throw new Error(`the stream broke: ${event.message}`);
    if (event.type !== 'connection') continue;
    if (known.has(event.id)) throw new Error(`id ${event.id} came twice`);
    known.add(event.id);
    if (random.below(200) === 0) continue; // it never decides on this one
    device.setVerdict(event.id, verdict());
    counts.verdicts += 1;
  }
  counts.lost += Number(lost);
  return lost;
}

/** Adds to `counts`; rejects with what went wrong. `gauges` is called with the pool's bytes while it lives. */
export async function live({ seed, milliseconds, counts, gauges }) {
  const random = new Random(seed);
  const { device, network, close } = await openSimulator(random);
  const idlePoolBytes = network.poolBytes();
  network.injectFaults(random.oneOf([0, 10_000, 100]));
  let isStopped = false;
  const stopped = () => isStopped;
  // An answer that was lost is awaited until then.
  const unlessEnded = (error) => {
    if (!(error instanceof ClosedError || error instanceof DriverShutdownError)) throw error;
  };

  const deciding = decide({ device, random: new Random(seed + 1), counts }).catch(unlessEnded);
  const working = Object.values(WORKLOADS).map((work, index) =>
    work({ device, network, random: new Random(seed + 2 + index), stopped }).catch(unlessEnded),
  );
  const gauge = setInterval(() => gauges(network.poolBytes()), 200);
  await Promise.race([pause(milliseconds), deciding, ...working]);
  isStopped = true;
  clearInterval(gauge);
  if (random.below(2) === 0) {
    const lost = await lossesOf(device);
    const told = await shutDown(device, network, deciding);
    if (told < lost) throw new Error(`${lost} events were lost, and ${told} told to be`);
    await expectIdle(network, idlePoolBytes);
  }
  const counters = network.counters();
  await close(); // resolves what is held, unloads the driver and checks what is left
  await Promise.all([deciding, ...working]);
  counts.connections += counters.flowsTotal;
  counts.packets += counters.offered;
  counts.faults += counters.injectedFaults;
  counts.lives += 1;
}

function openSimulator(random) {
  return createSimulator({
    failPolicy: random.oneOf(['open', 'closed']),
    pendingTimeoutMs: random.oneOf([0, 500, 2000]),
    maxHeldPackets: random.oneOf([64, 4096, 65_536]),
    maxQueuedBytes: random.oneOf([65_536, 1 << 20, 8 << 20]),
    readBufferSize: random.oneOf([1024, 4096, 65_536]),
  });
}

/** After which nothing is held and the stream has ended. Resolves to how many events the client was told to be lost. */
async function shutDown(device, network, deciding) {
  while (!(await unlessOutOfMemory(() => device.shutdown()))) await pause(10);
  const told = await deciding;
  await waitFor(
    () => network.counters().heldNow === 0,
    () => `${network.counters().heldNow} packets stay held`,
  );
  return told;
}

/** By the driver's own count. */
async function lossesOf(device) {
  let statistics;
  const read = async () => (statistics = await device.getStatistics());
  while (!(await unlessOutOfMemory(read))) await pause(10);
  return statistics.eventsLost;
}

/** A driver that filters no more gives its memory back. */
async function expectIdle(network, idlePoolBytes) {
  await waitFor(
    () => network.poolBytes() <= idlePoolBytes + IDLE_GROWTH_ALLOWED,
    () => `the pool of ${idlePoolBytes} bytes when idle stays at ${network.poolBytes()}`,
  );
}

async function waitFor(condition, problem) {
  for (let waited = 0; !condition(); waited += 10) {
    if (waited > PATIENCE_MS) throw new Error(problem());
    await pause(10);
  }
}
