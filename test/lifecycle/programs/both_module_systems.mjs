import { createRequire } from 'node:module';
import * as esm from 'netverdict';

const cjs = createRequire(import.meta.url)('netverdict');
const first = await esm.createSimulator();
const second = await cjs.createSimulator();
await Promise.all([first.close(), second.close()]);
const error = await second.device.getLogs().catch((reason) => reason);
console.log(error instanceof esm.ClosedError, error instanceof cjs.NetVerdictError);
