// A client that never decides: `node holding_client.mjs <path>`.
// It writes <path>1.txt when the first connection is held, and <path>2.txt when the second event is held.

import { writeFileSync } from 'node:fs';
import { open } from 'netverdict';

const device = await open();
let held = 0;
for await (const event of device) {
  if (event.type === 'connection')
    writeFileSync(`${process.argv[2]}${++held}.txt`, String(event.id));
}
