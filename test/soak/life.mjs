/** The life of one client on one computer: it decides at random over all that goes on there, and ends in some way. */

import { ClosedError, createSimulator, Verdict } from '../../dist/index.mjs';
import { Random } from './random.mjs';
import { pause, unlessOutOfMemory, WORKLOADS } from './workloads.mjs';

const VERDICTS = Object.values(Verdict).filter(
  (verdict) => verdict !== Verdict.Undecided && verdict !== Verdict.Undeterminable,
);

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
  let lost = 0;
  for await (const event of device) {
    counts.events += 1;
    if (event.type === 'lost') lost += Number(event.count);
    if (event.type === 'protocol-error') throw new Error(`the stream broke: ${event.message}`);
    if (event.type !== 'connection') continue;
    if (known.has(event.id)) throw new Error(`id ${event.id} came twice`);
    known.add(event.id);
    if (random.below(200) === 0) continue; // it never decides on this one
    device.setVerdict(event.id, verdict());
    counts.verdicts += 1;
  }
  counts.lost += lost;
}

/** Adds to `counts`; rejects with what went wrong. `gauges` is called with the pool's bytes while it lives. */
export async function live({ seed, milliseconds, counts, gauges }) {
  const random = new Random(seed);
  const { device, network, close } = await openSimulator(random);
  network.injectFaults(random.oneOf([0, 10_000, 100]));
  let isStopped = false;
  const stopped = () => isStopped;
  const unlessClosed = (error) => {
    if (!(error instanceof ClosedError)) throw error;
  };

  const deciding = decide({ device, random: new Random(seed + 1), counts }).catch(unlessClosed);
  const working = Object.values(WORKLOADS).map((work, index) =>
    work({ device, network, random: new Random(seed + 2 + index), stopped }).catch(unlessClosed),
  );
  const gauge = setInterval(() => gauges(network.poolBytes()), 200);
  await Promise.race([pause(milliseconds), deciding, ...working]);
  isStopped = true;
  clearInterval(gauge);
  if (random.below(2) === 0) await shutDown(device, network, deciding);
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

/** After which nothing is held and the stream has ended. */
async function shutDown(device, network, deciding) {
  while (!(await unlessOutOfMemory(() => device.shutdown()))) await pause(10);
  await deciding;
  for (let waited = 0; network.counters().heldNow !== 0; waited += 10) {
    if (waited > 5000) throw new Error(`${network.counters().heldNow} packets stay held`);
    await pause(10);
  }
}
