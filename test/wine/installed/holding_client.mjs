// A client that never decides: `node holding_client.mjs <file>` writes the file once it holds a connection.
import { writeFileSync } from 'node:fs';
import { open } from 'netverdict';

const device = await open();
for await (const event of device) {
  if (event.type === 'connection') writeFileSync(process.argv[2], String(event.id));
}
