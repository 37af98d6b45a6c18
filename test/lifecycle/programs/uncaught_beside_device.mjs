import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
const { outcome } = connect(network);
process.on('uncaughtException', async (error) => {
  console.log(error.message);
  await device.close();
  console.log(await outcome);
});
await device[Symbol.asyncIterator]().next();
setImmediate(() => {
  throw new Error('the application failed');
});
