import { createSimulator } from 'netverdict';

const { device } = await createSimulator();
device.unref();
void device.events().next();
console.log('unref’d');
