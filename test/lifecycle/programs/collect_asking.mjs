import { createSimulator } from 'netverdict';
import { collectUntil } from './collect.mjs';

async function ask() {
  const { device } = await createSimulator();
  const answers = await Promise.all([device.getLogs(), device.getBandwidth()]);
  await device.close();
  return answers;
}

let isAnswered = false;
const asked = ask().then(() => {
  isAnswered = true;
});
await collectUntil(() => isAnswered);
await asked;
console.log('answered');
