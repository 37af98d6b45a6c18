// Measures the round trip: hold a connection, read its event by `for await`, call setVerdict(), release the connection.
import { createSimulator, Verdict } from 'netverdict';
import peer from './peer.cjs';
import { percentile, sample } from './samples.mjs';

const Runs = 5;
const Connections = 400_000;
const InFlight = 8192;
const RoundTrips = 20_000;

async function acceptEverything(load) {
  const simulator = await createSimulator({ verifier: false });
  const { device, network } = simulator;
  const loaded = network.load(load).then((result) => simulator.close().then(() => result));
  for await (const event of device) {
    if (event.type === 'connection') device.setVerdict(event.id, Verdict.PermanentAccept);
  }
  const result = await loaded;
  if (result.permitted !== load.connections) {
    throw new Error(`${result.permitted} of ${load.connections} connections were permitted`);
  }
  return result;
}

async function verdictsPerSecond() {
  const { seconds } = await acceptEverything({ connections: Connections, inFlight: InFlight });
  return Connections / seconds;
}

function threadSafeFunctionEventsPerSecond() {
  const count = 100_000;
  const start = performance.now();
  let received = 0;
  return new Promise((resolve) => {
    peer.emitEvents(count, () => {
      if (++received === count) resolve(count / ((performance.now() - start) / 1000));
    });
  });
}

function pingPongMicroseconds() {
  return new Promise((resolve) => {
    peer.pingPong(
      RoundTrips,
      (pong) => pong(),
      (sorted) => resolve(sorted),
    );
  });
}

async function roundTripMicroseconds() {
  const { latencies } = await acceptEverything({ connections: RoundTrips, inFlight: 1 });
  return latencies.sort();
}

const roundTrips = await sample(Runs, roundTripMicroseconds);
const pingPongs = await sample(Runs, pingPongMicroseconds);

const latency = (name, share) => ({
  name: `one connection at a time, hold to release, ${name}`,
  unit: 'µs',
  better: 'lower',
  samples: roundTrips.map((sorted) => percentile(sorted, share)),
  peer: 'bare ThreadSafeFunction ping-pong',
  peerSamples: pingPongs.map((sorted) => percentile(sorted, share)),
});

export const results = [
  {
    name: 'hold, for await, setVerdict, release',
    unit: 'verdicts/s',
    better: 'higher',
    goal: 500_000,
    samples: await sample(Runs, verdictsPerSecond),
    peer: 'a ThreadSafeFunction call and an object each, no answer',
    peerSamples: await sample(Runs, threadSafeFunctionEventsPerSecond),
  },
  latency('p50', 0.5),
  latency('p99', 0.99),
];
