import { createRequire } from 'node:module';

const { loadBinding } = createRequire(import.meta.url)('../../../dist/addon/native.cjs');
const { EmbeddedComputer } = loadBinding();
const computer = new EmbeddedComputer({ virtualClock: false, verifier: false });
const many = { connections: 1, inFlight: 0xffff_ffff };
const plain = { protocol: 6, ipVersion: 4, packetsPerConnection: 0, payloadLength: 0 };
const { status } = await computer.load({ ...many, ...plain }).catch((error) => error);
console.log(`rejected with 0x${status.toString(16)}`);
await computer.close();
console.log('closed');
