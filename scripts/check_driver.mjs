// Checks that a driver is fit for publication: `node scripts/check_driver.mjs <netverdict.sys>…`.
// Visual C and the WDK give an image these parts, and mingw-w64 does not. See "PE Format" in Microsoft's documentation.
import { readFileSync } from 'node:fs';

const Directory = { Debug: 6, LoadConfiguration: 10 };
const SECURITY_COOKIE = 0x58; // in the load configuration, as are the next two
const GUARD_FLAGS = 0x90;
const LOAD_CONFIGURATION_LENGTH = GUARD_FLAGS + 4;
const GUARD_INSTRUMENTED = 0x100;
const DEBUG_ENTRY_LENGTH = 28;
const CODEVIEW = 2;

/** Returns the headers of a 64-bit image. */
function headersOf(image) {
  const header = image.length >= 0x40 ? image.readUInt32LE(0x3c) : image.length;
  const optional = header + 24;
  if (
    optional + 112 > image.length ||
    image.toString('latin1', header, header + 4) !== 'PE\0\0' ||
    image.readUInt16LE(optional) !== 0x20b
  ) {
    throw new Error('no 64-bit image of Windows');
  }
  return {
    optional,
    directories: image.readUInt32LE(optional + 108),
    sections: optional + image.readUInt16LE(header + 20),
    sectionCount: image.readUInt16LE(header + 6),
  };
}

/** Returns the place in the file of a relative virtual address. */
function placeOf(image, headers, address) {
  for (let index = 0; index < headers.sectionCount; index++) {
    const section = headers.sections + 40 * index;
    const start = image.readUInt32LE(section + 12);
    if (address >= start && address < start + image.readUInt32LE(section + 16)) {
      return image.readUInt32LE(section + 20) + address - start;
    }
  }
  return undefined;
}

/** Returns the bytes of a data directory: none where the image lacks it. */
function directory(image, headers, index) {
  if (index >= headers.directories) return Buffer.alloc(0);
  const entry = headers.optional + 112 + 8 * index;
  const place = placeOf(image, headers, image.readUInt32LE(entry));
  const length = image.readUInt32LE(entry + 4);
  return place === undefined ? Buffer.alloc(0) : image.subarray(place, place + length);
}

/** Returns what the image lacks. */
function missingParts(image) {
  const headers = headersOf(image);
  const load = directory(image, headers, Directory.LoadConfiguration);
  const debug = directory(image, headers, Directory.Debug);
  const missing = [];
  if (load.length < LOAD_CONFIGURATION_LENGTH) {
    missing.push('a load configuration');
  } else {
    if (load.readBigUInt64LE(SECURITY_COOKIE) === 0n) missing.push('a security cookie (/GS)');
    if ((load.readUInt32LE(GUARD_FLAGS) & GUARD_INSTRUMENTED) === 0) {
      missing.push('control flow guard (/guard:cf)');
    }
  }
  const types = [];
  for (let at = 0; at + DEBUG_ENTRY_LENGTH <= debug.length; at += DEBUG_ENTRY_LENGTH) {
    types.push(debug.readUInt32LE(at + 12));
  }
  if (!types.includes(CODEVIEW)) missing.push('the name of its symbols (PDB)');
  return missing;
}

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('Usage: node scripts/check_driver.mjs <netverdict.sys>…');
  process.exit(2);
}
for (const file of files) {
  try {
    const missing = missingParts(readFileSync(file));
    if (missing.length > 0) {
      console.error(`${file} lacks ${missing.join(', ')}. Only the build by the WDK is published.`);
      process.exitCode = 1;
    }
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    process.exitCode = 1;
  }
}
