import { createSimulator } from 'netverdict';

const { device } = await createSimulator();
await device.close();
// The native side frees the device's objects in one of the next turns.
for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
device.unref().ref().unref();
console.log('closed');
