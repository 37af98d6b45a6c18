import { openKept } from './kept_device.mjs';

await openKept();
console.log(Date.now());
process.kill(process.pid, 'SIGKILL');
