/** The parts of portable executables that the tests check ("PE Format" in Microsoft's documentation). */

export const SectionFlag = { Discardable: 0x0200_0000, Writable: 0x8000_0000 } as const;

/** Returns a section's flags. */
export function sectionCharacteristics(image: Buffer, name: string): number {
  const header = image.readUInt32LE(0x3c);
  const sections = header + 24 + image.readUInt16LE(header + 20);
  for (let index = 0; index < image.readUInt16LE(header + 6); index++) {
    const section = sections + 40 * index;
    const text = image.toString('latin1', section, section + 8).replace(/\0+$/, '');
    if (text === name) return image.readUInt32LE(section + 36);
  }
  throw new Error(`no section ${name}`);
}
