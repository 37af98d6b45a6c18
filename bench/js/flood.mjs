// Measures what a flood costs another process: the time from its connect to its verdict, during a scan that never stops.
import { createSimulator, Verdict } from 'netverdict';
import { percentile, sample } from './samples.mjs';

const Runs = 3;
const Connections = 1_048_576; // as many as the driver remembers
const InFlight = 8192;
const Bystander = 4242;
const QuietConnects = 500;
const remote = { address: '198.51.100.7', port: 443 };

async function connectMicroseconds(network) {
  const start = performance.now();
  const flow = network.connect({ processId: Bystander, protocol: 'tcp', remote });
  const outcome = await flow.outcome;
  if (outcome !== 'permitted') throw new Error(`another process's connection was ${outcome}`);
  const microseconds = (performance.now() - start) * 1000;
  flow.close();
  return microseconds;
}

async function bystanderMicroseconds(isFlooded) {
  const simulator = await createSimulator({ verifier: false });
  const { device, network } = simulator;
  const decided = (async () => {
    for await (const event of device) {
      if (event.type === 'connection') device.setVerdict(event.id, Verdict.PermanentAccept);
    }
  })();
  let isOver = false;
  const flood = isFlooded
    ? network.load({ connections: Connections, inFlight: InFlight }).then(() => (isOver = true))
    : undefined;
  const latencies = [];
  while (isFlooded ? !isOver : latencies.length < QuietConnects) {
    latencies.push(await connectMicroseconds(network));
  }
  await flood;
  await simulator.close();
  await decided;
  return Float64Array.from(latencies).sort();
}

const flooded = await sample(Runs, () => bystanderMicroseconds(true));
const quiet = await sample(Runs, () => bystanderMicroseconds(false));

export const results = [
  ['p50', 0.5],
  ['p99', 0.99],
].map(([name, share]) => ({
  name: `another process during a scan, connect to verdict, ${name}`,
  unit: 'µs',
  better: 'lower',
  samples: flooded.map((sorted) => percentile(sorted, share)),
  peer: 'the same without a scan',
  peerSamples: quiet.map((sorted) => percentile(sorted, share)),
}));
