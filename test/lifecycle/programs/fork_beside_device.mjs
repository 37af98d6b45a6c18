import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
const child = fork(fileURLToPath(new URL('many_devices.mjs', import.meta.url)), {
  stdio: 'ignore',
});
const [code] = await once(child, 'exit');
const { outcome } = connect(network);
for await (const event of device.events({ types: ['connection'] })) {
  event.block({ permanent: true });
  break;
}
console.log(`child ${code}, here ${await outcome}`);
await device.close();
