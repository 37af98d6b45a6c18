import { fileURLToPath } from 'node:url';
import { createSimulator } from 'netverdict';
import { countThreads } from './threads.mjs';

const capture = fileURLToPath(new URL('../../../captures/host-traffic.pcap', import.meta.url));
const threads = countThreads();
const { network, close } = await createSimulator();
const controller = new AbortController();
const replay = network.replay(capture, { signal: controller.signal });
const closed = close();
// JavaScript gets no event meanwhile: the replay is still awaited, but its computer is gone.
while (countThreads() > threads);
controller.abort('enough');
console.log(`rejected with ${await replay.catch((reason) => reason)}`);
await closed;
console.log('closed');
