// Reads some events, then none during half a minute of connections, then all the rest.
import { setImmediate as turn } from 'node:timers/promises';
import { createSimulator } from 'netverdict';

const SECONDS = 30;
const CONNECTIONS_A_SECOND = 200;
/** Refusals are reported as a sum once a second. */
const REPORT_PERIOD_MS = 2000;

const { device, network, clock } = await createSimulator({
  clock: 'virtual',
  maxQueuedBytes: 65_536,
  highWaterMark: 65_536,
  stallTimeoutMs: 0,
});
const events = device.events();
const outcomes = [];
let reported = 0;
let lost = 0;

/** Each connection has one packet, so a lost question is not asked again. */
async function letPass(seconds) {
  for (let second = 0; second < seconds; second++) {
    for (let i = 0; i < CONNECTIONS_A_SECOND; i++) {
      const remote = { address: '198.51.100.1', port: 53 };
      outcomes.push(network.connect({ processId: 42, protocol: 'udp', remote }).outcome);
    }
    clock.advance(1000);
    await turn();
  }
}

function take(event) {
  if (event.type === 'lost') lost += Number(event.count);
  if (event.type !== 'connection') return;
  reported += 1;
  event.accept();
}

async function read(isEnough) {
  while (!isEnough()) take((await events.next()).value);
}

await letPass(1);
await read(() => reported === 100);
await letPass(SECONDS);
clock.advance(REPORT_PERIOD_MS);
await read(() => reported + lost >= outcomes.length);
const kinds = [...new Set(await Promise.all(outcomes))].sort();
await turn(); // the verdicts of the last event are written
const { eventsLost, packetsHeld } = await device.getStatistics();
device.shutdown();
for await (const event of events) take(event);
console.log(`reported and lost ${reported + lost}, of ${outcomes.length}: ${kinds.join(' ')}`);
console.log(
  `reported after the pause ${reported > 100}, lost ${lost > 0}, lost but not counted ${lost - Number(eventsLost)}`,
);
console.log(`held ${packetsHeld}`);
await device.close();
