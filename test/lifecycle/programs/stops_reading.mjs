// Some events are read, then none for half a minute of connections, then all the rest.
import { setImmediate as turn } from 'node:timers/promises';
import { createSimulator } from 'netverdict';

const SECONDS = 30;
const CONNECTIONS_A_SECOND = 200;

const { device, network, clock } = await createSimulator({
  clock: 'virtual',
  maxQueuedBytes: 65_536,
  highWaterMark: 65_536,
});
const events = device.events();
const outcomes = [];
let told = 0;
let lost = 0;

/** Of one packet each: what was lost is asked about once. */
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
  told += 1;
  event.accept();
}

async function read(isEnough) {
  while (!isEnough()) take((await events.next()).value);
}

await letPass(1);
await read(() => told === 100);
await letPass(SECONDS);
await read(() => told + lost >= outcomes.length);
const kinds = [...new Set(await Promise.all(outcomes))].sort();
await turn(); // the verdicts of the last one are written
const { eventsLost, packetsHeld } = await device.getStatistics();
device.shutdown();
for await (const event of events) take(event);
console.log(`told and lost ${told + lost}, of ${outcomes.length}: ${kinds.join(' ')}`);
console.log(
  `told on ${told > 100}, lost ${lost > 0}, lost but not counted ${lost - Number(eventsLost)}`,
);
console.log(`held ${packetsHeld}`);
await device.close();
