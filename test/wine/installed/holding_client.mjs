// A client that never decides: `node holding_client.mjs <path>` writes <path>1.txt once it holds a connection, then <path>2.txt.
import { writeFileSync } from 'node:fs';
import { open } from 'netverdict';

const device = await open();
let held = 0;
for await (const event of device) {
  if (event.type === 'connection')
    writeFileSync(`${process.argv[2]}${++held}.txt`, String(event.id));
}
