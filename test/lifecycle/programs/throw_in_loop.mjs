import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
connect(network);
for await (const event of device) {
  throw new Error(`the application failed at a ${event.type}`);
}
