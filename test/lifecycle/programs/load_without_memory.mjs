import { createRequire } from 'node:module';

const { loadBinding } = createRequire(import.meta.url)('../../../dist/native.cjs');
const { EmbeddedDevice } = loadBinding();
const reading = { readBuffers: 1, readBufferSize: 65_536, highWaterMark: 65_536 };
const device = new EmbeddedDevice({ ...reading, virtualClock: false, verifier: false }, () => {});
const many = { connections: 1, inFlight: 0xffff_ffff };
const plain = { protocol: 6, ipVersion: 4, packetsPerConnection: 0, payloadLength: 0 };
const { status } = await device.load({ ...many, ...plain }).catch((error) => error);
console.log(`rejected with 0x${status.toString(16)}`);
await device.close();
console.log('closed');
