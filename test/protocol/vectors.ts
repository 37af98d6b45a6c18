/** Reads the golden vectors. */

import { readFileSync } from 'node:fs';

/** One line of the file. */
export interface Vector {
  readonly name: string;
  readonly kind: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly bytes: Uint8Array;
}

/** Bytes in hex; `-` for none. */
export function bytesOf(hex: string): Uint8Array {
  return hex === '-' ? new Uint8Array(0) : Uint8Array.from(Buffer.from(hex, 'hex'));
}

export const vectors: readonly Vector[] = readFileSync(
  new URL('vectors.txt', import.meta.url),
  'utf8',
)
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map(parseLine);

function parseLine(line: string): Vector {
  const [description = '', hex = ''] = line.split(' => ');
  const [name = '', kind = '', ...fields] = description.split(' ');
  return {
    name,
    kind,
    fields: Object.fromEntries(fields.map((field) => field.split('=') as [string, string])),
    bytes: bytesOf(hex.replaceAll(' ', '')),
  };
}
