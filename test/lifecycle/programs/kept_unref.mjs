import { openKept } from './kept_device.mjs';

const device = await openKept();
device.unref();
console.log(Date.now());
