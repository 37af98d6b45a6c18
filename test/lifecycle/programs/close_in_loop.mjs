import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
connect(network);
for await (const event of device) {
  event.accept({ permanent: true });
  void device.close();
}
console.log('loop ended');
await device.close();
await device.close();
console.log('closed');
