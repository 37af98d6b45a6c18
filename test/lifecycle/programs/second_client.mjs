// Opens one client after another and leaves the last one open: the process ends in the middle of its read.
import { createSimulator, Verdict } from 'netverdict';

const simulator = await createSimulator();
void simulator.network.load({ connections: 1_000_000, inFlight: 64 }).catch(() => undefined);
let device = simulator.device;
for (let clients = 1; ; clients++) {
  let decided = 0;
  for await (const event of device.events({ types: ['connection'] })) {
    device.setVerdict(event.id, Verdict.PermanentAccept);
    decided += 1;
    if (decided === 100) break;
  }
  if (clients === 5) {
    console.log(`${clients} clients`);
    process.exit(6);
  }
  await device.close();
  device = await simulator.open();
}
