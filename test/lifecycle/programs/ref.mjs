import { createSimulator } from 'netverdict';

const { device } = await createSimulator();
device.unref().ref();
// This timer alone would not keep the process alive: it fires because the device does.
setTimeout(async () => {
  console.log('still there');
  await device.close();
  console.log('closed');
}, 50).unref();
