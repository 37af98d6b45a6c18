import { openKept } from './kept_device.mjs';

for (let cycle = 0; cycle < 3; cycle += 1) {
  const device = await openKept();
  await device.close();
}
console.log(Date.now());
