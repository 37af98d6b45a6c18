// Writes the corpus of the decoder's fuzzer: records of every kind.
// The driver core wrote these records during a replay of the bundled capture.
// Needs the built addon and `npm run compile`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSimulator } from '../../../dist/index.mjs';

const require = createRequire(import.meta.url);
const binding = require('../../../dist/addon/binding.js').requireBinding();
const ROOT = join(import.meta.dirname, '..', '..', '..');
const FOLDER = join(ROOT, 'test', 'fuzz', 'corpus', 'decoder');
const OF_EACH_KIND = 4;
const LONGEST_RECORD = 300;

const reads = [];
const { EmbeddedDevice } = binding;
binding.EmbeddedDevice = class extends EmbeddedDevice {
  take() {
    const bytes = super.take();
    if (bytes !== null) reads.push(Buffer.from(bytes));
    return bytes;
  }
};

function* recordsOf(stream) {
  for (let start = 0; start < stream.length;) {
    const end = start + 5 + stream.readUInt32LE(start + 1);
    yield stream.subarray(start, end);
    start = end;
  }
}

const simulator = await createSimulator({
  logLevel: 'trace',
  payloadLimit: 64,
  maxHeldPackets: 32,
  pendingTimeoutMs: 20,
});
const { device, network } = simulator;
network.connect({
  processId: 4242,
  processPath: String.raw`\Device\HarddiskVolume3\Windows\explorer.exe`,
  protocol: 'tcp',
  remote: { address: '10.77.0.1', port: 80 },
});
const replayed = network
  .replay(join(ROOT, 'captures', 'host-traffic.pcap'), { local: ['10.77.0.2', 'fd77::2'] })
  .then(() => sleep(100)) // the first ones time out without a verdict
  .then(() => Promise.all([device.getBandwidth(), device.getLogs()]))
  .then(() => device.shutdown());
for await (const event of device.events()) {
  if (event.type === 'connection' && event.id > 64n) event.accept({ permanent: true });
}
await replayed;
await simulator.close();

const short = [...recordsOf(Buffer.concat(reads))].filter(({ length }) => length <= LONGEST_RECORD);
mkdirSync(FOLDER, { recursive: true });
for (const kind of new Set(short.map(([type]) => type))) {
  const chosen = short.filter(([type]) => type === kind).slice(0, OF_EACH_KIND);
  writeFileSync(join(FOLDER, `kind-${kind}.bin`), Buffer.concat(chosen));
}
