import { parentPort } from 'node:worker_threads';
import { openKept } from './kept_device.mjs';

const device = await openKept();
parentPort.postMessage('reading');
setInterval(() => device, 1000);
