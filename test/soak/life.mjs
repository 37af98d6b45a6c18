/**
 * The life of one computer. Client after client decides at random on its traffic, and ends in various ways.
 * The network runs on meanwhile.
 */

import { createSimulator, Verdict } from '../../dist/index.mjs';
import { Random } from './random.mjs';
import { commands, NETWORK, pause, unlessEnded, unlessOutOfMemory } from './workloads.mjs';

const VERDICTS = Object.values(Verdict).filter(
  (verdict) => verdict !== Verdict.Undecided && verdict !== Verdict.Undeterminable,
);

const PATIENCE_MS = 5000;
/**
 * The pool that a driver without a client may gain from one client to a later one. What stays varies by 30 KiB.
 * Each client has thousands of connections, so a leak of 100 bytes for each is found.
 */
const MOST_POOL_GROWTH = 128 * 1024;
const LONGEST_CLIENT_MS = 2000;
/** Longer than the least stall timeout. */
const HANG_MS = 400;
/** The time between a client's last verdict and its close, so that packets are held. */
const HOLDING_MS = 50;

/** Accepts most connections, so that they live. */
function randomPolicy(random) {
  const weights = VERDICTS.map(() => random.below(3));
  const choices = VERDICTS.flatMap((verdict, index) => Array(weights[index]).fill(verdict));
  const accepts = Array(choices.length + 1).fill(Verdict.PermanentAccept);
  return () => random.oneOf([...accepts, ...choices]);
}

/** The same for a connection's questions and for its end. */
function keyOf({ protocol, localAddress, localPort, remoteAddress, remotePort }) {
  return `${protocol} ${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}

/** Conversations of a protocol without ports have the same fields, so the end of one leaves the others alive. */
function takeEnd(alive, event) {
  const key = keyOf(event);
  return event.localPort !== 0 || event.remotePort !== 0 ? alive.delete(key) : alive.has(key);
}

/** One application on a driver that others may have used before; `known` has their ids. */
class Client {
  #device;
  #network;
  #random;
  #counts;
  #known;
  #reportedLost = 0n;
  #lostBefore;
  #holdsAll = false;
  #isStopped = false;
  #working;

  constructor({ device, network, random, counts, known }) {
    this.#device = device;
    this.#network = network;
    this.#random = random;
    this.#counts = counts;
    this.#known = known;
    counts.clients += 1;
  }

  /** Works until its time is up; rejects if one of `others` does. */
  async live(milliseconds, others) {
    this.#lostBefore = await this.#lost();
    const random = new Random(this.#random.below(2 ** 31));
    const commanding = commands({
      device: this.#device,
      network: this.#network,
      random,
      counts: this.#counts,
      stopped: () => this.#isStopped,
    });
    this.#working = Promise.all([this.#decide().catch(unlessEnded), commanding.catch(unlessEnded)]);
    await Promise.race([pause(milliseconds), this.#working, others]);
    this.#isStopped = true;
  }

  /** Ends the client by the shutdown command; the stream then ends, after all losses are reported. */
  async shutDown() {
    const lost = (await this.#lost()) - this.#lostBefore;
    while (!(await unlessOutOfMemory(() => this.#device.shutdown()))) await pause(10);
    await this.#working;
    if (this.#reportedLost < lost)
      throw new Error(`${lost} events were lost, and ${this.#reportedLost} reported`);
    await expectNothingHeld(this.#network);
    await this.close();
  }

  /** Closes the client while events wait for its verdict. */
  async closeHolding() {
    this.#holdsAll = true;
    await pause(HOLDING_MS);
    await this.close();
  }

  async close() {
    await this.#device.close();
    await this.#working;
  }

  async #decide() {
    const verdict = randomPolicy(this.#random);
    const alive = new Set();
    for await (const event of this.#device) {
      this.#counts.events += 1;
      if (event.type === 'lost') {
        this.#reportedLost += event.count;
        this.#counts.lost += Number(event.count);
      }
      if (event.type === 'protocol-error') throw new Error(`the stream broke: ${event.message}`);
      if (event.type === 'stalled') this.#counts.stalls += 1;
      // The driver reports so a connection that it decides on without a question, as in a stall.
      if (event.type === 'timeout' && event.connection) alive.add(keyOf(event.connection));
      if (event.type === 'connection-end' && !takeEnd(alive, event)) {
        throw new Error(`the end of ${keyOf(event)} came without its connection, or twice`);
      }
      if (event.type !== 'connection') continue;
      alive.add(keyOf(event));
      if (this.#known.has(event.id)) throw new Error(`id ${event.id} came twice`);
      this.#known.add(event.id);
      if (this.#random.below(1500) === 0) await pause(HANG_MS); // no sign of life meanwhile
      if (this.#holdsAll || this.#random.below(200) === 0) continue; // this event gets no verdict
      this.#device.setVerdict(event.id, verdict());
      this.#counts.verdicts += 1;
    }
  }

  /** Returns the driver's count of lost events. */
  async #lost() {
    let statistics;
    const read = async () => (statistics = await this.#device.getStatistics());
    while (!(await unlessOutOfMemory(read))) await pause(10);
    return statistics.eventsLost;
  }
}

/** Adds to `counts`, and rejects on an error. */
export async function live({ seed, milliseconds, counts }) {
  const random = new Random(seed);
  const simulator = await createSimulator(randomOptions(random));
  const { network } = simulator;
  network.injectFaults(random.oneOf([0, 10_000, 100]));
  let isStopped = false;
  const stopped = () => isStopped;
  const working = Promise.all(
    Object.values(NETWORK).map((work, index) =>
      work({ network, random: new Random(seed + 1 + index), counts, stopped }).catch(unlessEnded),
    ),
  );
  const end = performance.now() + milliseconds;
  const restingPool = [];
  const client = await liveAgain({ simulator, random, counts, end, working, restingPool });
  isStopped = true;
  if (random.below(2) === 0) {
    await client.shutDown();
    await rest(network, restingPool);
  }
  const counters = network.counters();
  await simulator.close(); // resolves held packets, unloads the driver and checks for leaks
  await Promise.all([client.close(), working]);
  counts.connections += counters.flowsTotal;
  counts.packets += counters.offered;
  counts.faults += counters.injectedFaults;
  counts.lives += 1;
}

/** Runs client after client until the time is up; returns the last one, which is still open. */
async function liveAgain({ simulator, random, counts, end, working, restingPool }) {
  const { network } = simulator;
  const known = new Set();
  let { device } = simulator;
  for (;;) {
    const client = new Client({ device, network, random, counts, known });
    const remaining = end - performance.now();
    await client.live(Math.min(random.below(LONGEST_CLIENT_MS), remaining), working);
    if (performance.now() >= end) return client;
    await random.oneOf([
      () => client.shutDown(),
      () => client.closeHolding(),
      () => client.close(),
    ])();
    await rest(network, restingPool);
    await pause(random.below(50));
    device = await simulator.open(randomOptions(random));
  }
}

function randomOptions(random) {
  return {
    failPolicy: random.oneOf(['open', 'closed']),
    pendingTimeoutMs: random.oneOf([0, 500, 2000]),
    stallTimeoutMs: random.oneOf([0, 100]),
    maxHeldPackets: random.oneOf([64, 4096, 65_536]),
    maxQueuedBytes: random.oneOf([65_536, 1 << 20, 8 << 20]),
    readBufferSize: random.oneOf([1024, 4096, 65_536]),
  };
}

async function expectNothingHeld(network) {
  await waitFor(
    () => network.counters().heldNow === 0,
    () => `${network.counters().heldNow} packets stay held`,
  );
}

/** A driver without a client holds nothing, and has freed its memory. Adds the bytes of its pool to `restingPool`. */
async function rest(network, restingPool) {
  await expectNothingHeld(network);
  const [first = Infinity] = restingPool;
  await waitFor(
    () => network.poolBytes() <= first + MOST_POOL_GROWTH,
    () => `the pool of ${first} bytes after the first client stays at ${network.poolBytes()}`,
  );
  restingPool.push(network.poolBytes());
}

async function waitFor(condition, problem) {
  for (let waited = 0; !condition(); waited += 10) {
    if (waited > PATIENCE_MS) throw new Error(problem());
    await pause(10);
  }
}
