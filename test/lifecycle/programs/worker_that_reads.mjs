import { parentPort, workerData } from 'node:worker_threads';
import { createSimulator, Verdict } from 'netverdict';

const { device, network } = await createSimulator();
void network.load({ connections: 1_000_000, inFlight: 64 });
let decided = 0;
for await (const event of device) {
  if (event.type !== 'connection') continue;
  device.setVerdict(event.id, Verdict.PermanentAccept);
  decided += 1;
  if (decided === 100) parentPort.postMessage('reading');
  if (decided === 200 && workerData === 'exit') process.exit(5);
}
