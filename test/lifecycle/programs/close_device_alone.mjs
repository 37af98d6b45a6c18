// The simulator is never closed. After its device is closed, only awaited results of the network keep the process.
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const { device, network } = await createSimulator();
const held = connect(network);
await device.events({ types: ['connection'] }).next();
await device.close();
console.log(`held ${await held.outcome}`);
const between = connect(network);
console.log(`between ${await between.outcome}, sent ${await between.send(new Uint8Array(100))}`);
console.log(`load permitted ${(await network.load({ connections: 1000 })).permitted}`);
