// Simulators without references: in one the device was closed, in the other the second client was forgotten.
import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';
import { connect } from './connect.mjs';
import { countThreads } from './threads.mjs';

const warnings = [];
process.on('warning', ({ message }) => {
  warnings.push(message);
});

async function closeDevice() {
  const { device, network } = await createSimulator();
  await device.close();
  network.onWire(() => undefined);
  await connect(network).outcome;
}

async function forgetSecond() {
  const { device, network, open } = await createSimulator();
  await device.close();
  const second = await open();
  const { outcome } = connect(network);
  const { value } = await second.events({ types: ['connection'] }).next();
  value.accept({ permanent: true });
  await outcome;
}

async function collectAfter(forget) {
  const threads = countThreads();
  await forget();
  await collectUntil(() => countThreads() <= threads);
  console.log(countThreads() <= threads ? 'its threads have ended' : 'its threads run still');
  await new Promise((resolve) => setImmediate(resolve));
  console.log(`${warnings.length} warnings`);
}

await collectAfter(closeDevice);
await collectAfter(forgetSecond);
