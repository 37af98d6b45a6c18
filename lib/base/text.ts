/** Text of programs, files and captures, before people see it. @internal */

import { inspect } from 'node:util';

/**
 * Control characters, C1 among them; format characters, bidi overrides among them; line separators; half characters.
 * They drive a terminal, or make text look like other text.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const SPACE = /^[\t-\r\u0085\u2028\u2029]$/;

/** The length to which a name of a program or a file is cut in a message. */
const MAX_QUOTED = 200;

/** Replaces unprintable characters. The result is one line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (SPACE.test(character) ? ' ' : '\uFFFD'));
}

/** JSON in which unprintable characters are escaped, so that its value is unchanged. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(UNPRINTABLE, escaped);
}

/** Shortens text of others for a message. */
export function cut(text: string): string {
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
}

/** Shows a value of others in a message: shortened, and text in quotation marks. */
export function quoted(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(cut(value));
  }
  return cut(inspect(value, { depth: 1, maxArrayLength: 5, maxStringLength: MAX_QUOTED }));
}

function escaped(character: string): string {
  return Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
}
