import { createSimulator } from 'netverdict';

const { device } = await createSimulator();
setImmediate(() => {
  console.log('exiting');
  process.exit(7);
});
for await (const event of device) console.log(event.type);
