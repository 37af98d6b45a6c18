// Measures how fast connection events travel from the driver's queue to their fields in JavaScript.
// The queue is filled first, with connections that stay held, so making the connections is not timed.
import { setTimeout as delay } from 'node:timers/promises';
import { createSimulator } from 'netverdict';
import peer from './peer.cjs';
import { now, sample } from './samples.mjs';

const Runs = 5;
const Events = 400_000;
const PeerEvents = 100_000;

const driverOptions = { maxQueuedBytes: 256 * 1024 * 1024, maxHeldPackets: 2 * Events };

async function filledSimulator() {
  const simulator = await createSimulator({ ...driverOptions, verifier: false });
  const load = simulator.network.load({ connections: Events, inFlight: Events });
  while (simulator.network.counters().flowsTotal < Events) await delay(5);
  return { simulator, load };
}

async function measure(consume) {
  const { simulator, load } = await filledSimulator();
  const start = now();
  const checksum = await consume(simulator.device);
  const seconds = now() - start;
  if (checksum.events !== Events) throw new Error(`${checksum.events} of ${Events} events arrived`);
  await simulator.close();
  await load;
  return Events / seconds;
}

function read(event, checksum) {
  if (event.type !== 'connection') return;
  checksum.events++;
  checksum.fields +=
    Number(event.id & 0xffn) + event.localPort + event.remotePort + event.processId;
}

async function throughBatches(device) {
  const checksum = { events: 0, fields: 0 };
  for await (const batch of device.batches()) {
    for (let index = 0; index < batch.length; index++) read(batch[index], checksum);
    if (checksum.events >= Events) break;
  }
  return checksum;
}

async function throughForAwait(device) {
  const checksum = { events: 0, fields: 0 };
  for await (const event of device) {
    read(event, checksum);
    if (checksum.events >= Events) break;
  }
  return checksum;
}

function throughThreadSafeFunction() {
  const checksum = { events: 0, fields: 0 };
  const start = now();
  return new Promise((resolve) => {
    peer.emitEvents(PeerEvents, (event) => {
      checksum.events++;
      checksum.fields +=
        Number(event.id & 0xffn) +
        event.localPort +
        event.remotePort +
        event.processId +
        event.type;
      if (checksum.events === PeerEvents) resolve(PeerEvents / (now() - start));
    });
  });
}

const peerSamples = await sample(Runs, throughThreadSafeFunction);
const common = {
  unit: 'events/s',
  better: 'higher',
  peer: 'a ThreadSafeFunction call and an object each',
  peerSamples,
};
export const results = [
  {
    ...common,
    name: 'events to JavaScript, batches()',
    goal: 6e6,
    samples: await sample(Runs, () => measure(throughBatches)),
  },
  {
    ...common,
    name: 'events to JavaScript, for await',
    goal: 3e6,
    samples: await sample(Runs, () => measure(throughForAwait)),
  },
];
