import { createSimulator, Verdict } from 'netverdict';

const { device, network } = await createSimulator();
void network.load({ connections: 1_000_000, inFlight: 256 });
let decided = 0;
for await (const event of device) {
  if (event.type !== 'connection') continue;
  device.setVerdict(event.id, Verdict.PermanentAccept);
  decided += 1;
  if (decided === 1000) {
    console.log('exiting');
    process.exit(8);
  }
}
