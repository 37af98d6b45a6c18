import { parentPort } from 'node:worker_threads';
import { createSimulator } from 'netverdict';

parentPort.postMessage('opening');
for (;;) {
  const { device, close } = await createSimulator();
  await Promise.all([device.getStatistics(), device.getLogs()]);
  await close();
}
