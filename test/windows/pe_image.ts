/** The parts of portable executables that the tests check ("PE Format" in Microsoft's documentation). */

export const SectionFlag = { Discardable: 0x0200_0000, Writable: 0x8000_0000 } as const;

interface Section {
  readonly address: number;
  readonly offset: number;
  readonly characteristics: number;
}

function findSection(image: Buffer, name: string): Section {
  const header = image.readUInt32LE(0x3c);
  const sections = header + 24 + image.readUInt16LE(header + 20);
  for (let index = 0; index < image.readUInt16LE(header + 6); index++) {
    const section = sections + 40 * index;
    const text = image.toString('latin1', section, section + 8).replace(/\0+$/, '');
    if (text !== name) continue;
    return {
      address: image.readUInt32LE(section + 12),
      offset: image.readUInt32LE(section + 20),
      characteristics: image.readUInt32LE(section + 36),
    };
  }
  throw new Error(`no section ${name}`);
}

/** Returns a section's flags. */
export function sectionCharacteristics(image: Buffer, name: string): number {
  return findSection(image, name).characteristics;
}

const RT_MESSAGETABLE = 11;
const IS_DIRECTORY = 0x8000_0000;
const IS_UNICODE = 1;

/** Returns the offset of the first resource of a type, of any name and language, in the image. */
function findResource(image: Buffer, type: number): number {
  const { address, offset } = findSection(image, '.rsrc');
  let directory = offset;
  for (let level = 0; level < 3; level++) {
    const named = image.readUInt16LE(directory + 12);
    const count = named + image.readUInt16LE(directory + 14);
    const entries = Array.from({ length: count }, (_, index) => directory + 16 + 8 * index);
    const entry = entries.find((at) => level > 0 || image.readUInt32LE(at) === type);
    if (entry === undefined) throw new Error(`no resource of type ${String(type)}`);
    const to = image.readUInt32LE(entry + 4);
    directory = offset + (to >= IS_DIRECTORY ? to - IS_DIRECTORY : to);
  }
  return offset + image.readUInt32LE(directory) - address;
}

/** Returns the image's message table: texts by message number (MESSAGE_RESOURCE_DATA). */
export function messages(image: Buffer): Map<number, string> {
  const table = findResource(image, RT_MESSAGETABLE);
  const found = new Map<number, string>();
  for (let block = 0; block < image.readUInt32LE(table); block++) {
    const at = table + 4 + 12 * block;
    let entry = table + image.readUInt32LE(at + 8);
    for (let id = image.readUInt32LE(at); id <= image.readUInt32LE(at + 4); id++) {
      const length = image.readUInt16LE(entry);
      const encoding = image.readUInt16LE(entry + 2) === IS_UNICODE ? 'utf16le' : 'latin1';
      found.set(id, image.toString(encoding, entry + 4, entry + length).replace(/\0+$/, ''));
      entry += length;
    }
  }
  return found;
}
