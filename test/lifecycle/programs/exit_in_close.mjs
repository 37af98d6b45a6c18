import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
connect(network);
await device.events().next();
void device.close();
process.exit(9);
