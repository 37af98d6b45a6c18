// Opens and closes the device in a program of any name: `<host>.exe opening_client.mjs <file>`.
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { open } from 'netverdict';

const device = await open();
const { major } = device.version();
await device.close();
writeFileSync(process.argv[2], `${basename(process.execPath)} ${major}`);
