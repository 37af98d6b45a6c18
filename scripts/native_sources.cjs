// Names the sources of the native addon. On Windows: its own, as Microsoft's compiler does not take the simulated kernel.
// Elsewhere also the driver's core, and the simulated kernel that the core runs on.
'use strict';

const { readdirSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');

function sources(folder, extension) {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => `${folder}/${entry.name}`)
    .sort();
}

const simulator = [
  'addon/embedded',
  'sim',
  'sim/nt',
  'sim/ndis',
  'sim/wfp',
  'sim/net',
  'sim/sources',
];
const files =
  process.platform === 'win32'
    ? ['addon', 'addon/win32'].flatMap((folder) => sources(folder, '.cc'))
    : [
        ...['addon', ...simulator].flatMap((folder) => sources(folder, '.cc')),
        ...sources('kext', '.c'),
      ];
console.log(files.join('\n'));
