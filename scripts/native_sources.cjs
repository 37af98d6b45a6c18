// Prints the sources of the native addon.
// On Windows it names only the addon's own, because Microsoft's compiler does not accept the simulated kernel.
// Elsewhere it adds the driver's core, and the simulated kernel under the core.
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

/** Writes a file only if its text differs, because a newer file is compiled again. */
function writeIfDifferent(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}

/** Writes files that include eight sources each, because the standard library's headers take most of the time. */
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
