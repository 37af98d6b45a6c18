// The second verdict throws and ends the loop; another loop continues.
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

const processIds = [1, 2, 3, 4];
const { device, network } = await createSimulator({ failPolicy: 'closed' });
const outcomes = processIds.map((processId) => connect(network, processId).outcome);
const seen = [];

function decide(event) {
  seen.push(event.processId);
  if (event.processId === 2) throw new Error('the application failed');
  event.accept({ permanent: true });
}

while (seen.length < processIds.length) {
  try {
    for await (const event of device.events({ types: ['connection'] })) {
      decide(event);
      if (seen.length === processIds.length) break;
    }
  } catch (error) {
    console.log(error.message);
  }
}
console.log(seen.join(' '));
await device.close();
console.log((await Promise.all(outcomes)).join(' '));
