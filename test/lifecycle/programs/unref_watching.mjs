import { createSimulator } from 'netverdict';

const { device } = await createSimulator();
device.unref();
void device.watchBandwidth({ intervalMs: 1_000_000_000 }).next();
console.log('unref’d');
