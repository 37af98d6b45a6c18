// Half a minute of connections while the application does not read, and then it goes on.
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const SECONDS = 30;
const CONNECTIONS_A_SECOND = 200;

const { device, network, clock } = await createSimulator({
  clock: 'virtual',
  maxQueuedBytes: 65_536,
  highWaterMark: 65_536,
});
const outcomes = [];
for (let second = 0; second < SECONDS; second++) {
  for (let i = 0; i < CONNECTIONS_A_SECOND; i++) outcomes.push(connect(network).outcome);
  clock.advance(1000);
}

let told = 0;
let lost = 0;
for await (const event of device) {
  if (event.type === 'lost') lost += Number(event.count);
  if (event.type === 'connection') {
    told += 1;
    event.accept();
  }
  if (told + lost >= outcomes.length) break;
}
const kinds = [...new Set(await Promise.all(outcomes))].sort();
console.log(`told ${told > 0}, lost ${lost > 0}: ${kinds.join(' ')}`);
await device.close();
