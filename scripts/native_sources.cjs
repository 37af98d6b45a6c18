// Names the sources of the native addon. On Windows: its own, as Microsoft's compiler does not take the simulated kernel.
// Elsewhere also the driver's core, and the simulated kernel that the core runs on.
'use strict';

const { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');

function sources(folder, extension) {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => `${folder}/${entry.name}`)
    .sort();
}

/** Leaves a file as it is that has this text, for its age tells what to compile again. */
function writeIfDifferent(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}

/** Writes files that include eight sources each: most of the time goes into the standard library's headers. */
function combined(name, files) {
  const folder = 'build/combined';
  mkdirSync(join(root, folder), { recursive: true });
  return Array.from({ length: Math.ceil(files.length / 8) }, (_, index) => {
    const path = `${folder}/${name}_${index}.cc`;
    const included = files.slice(8 * index, 8 * (index + 1));
    const text = included.map((file) => `#include "../../${file}"\n`).join('');
    writeIfDifferent(join(root, path), text);
    return path;
  });
}

const cc = (...folders) => folders.flatMap((folder) => sources(folder, '.cc'));

const files =
  process.platform === 'win32'
    ? cc('addon', 'addon/win32')
    : [
        ...cc('addon', 'addon/embedded'),
        ...combined('sim', cc('sim', 'sim/nt', 'sim/ndis', 'sim/wfp', 'sim/net', 'sim/sources')),
        ...sources('kext', '.c'),
      ];
console.log(files.join('\n'));
