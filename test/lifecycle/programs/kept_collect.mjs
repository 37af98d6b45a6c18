import { collectUntil } from './collect.mjs';
import { openKept } from './kept_device.mjs';

let hasWarned = false;
process.on('warning', () => {
  hasWarned = true;
});

async function forget() {
  await openKept();
}

await forget();
await collectUntil(() => hasWarned);
console.log(hasWarned ? 'warned' : 'not collected');
console.log(Date.now());
