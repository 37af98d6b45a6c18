import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
connect(network);
await device[Symbol.asyncIterator]().next();
process.abort();
