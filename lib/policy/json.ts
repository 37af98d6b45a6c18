/** JSON that people write. @internal */

import { InvalidArgumentError } from '../base/errors.js';
import { cut, printable } from '../base/text.js';

/** An object or a list that is being read. */
interface Level {
  /** The keys so far; undefined for a list. */
  readonly keys: Set<string> | undefined;
  /** The key or the index of the present member. */
  member: string | number;
}

/**
 * Parses JSON. A key that stands twice in an object is an error, because `JSON.parse` would drop one of its values.
 *
 * @param what Begins the message of an error, such as `The policy`.
 * @throws InvalidArgumentError that names the place.
 */
export function parseJson(text: string, what: string): unknown {
  const json = text.replace(/^\uFEFF/, '');
  const value = parse(json, what);
  const place = placeOfRepeatedKey(json);
  if (place !== undefined) {
    throw new InvalidArgumentError(
      `${what} is not valid: ${place} is written twice. Keep one of them.`,
    );
  }
  return value;
}

function parse(json: string, what: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch (error) {
    const reason = printable(error instanceof Error ? error.message : String(error));
    const cause = new SyntaxError(reason);
    throw new InvalidArgumentError(`${what} is not JSON: ${reason}.`, { cause });
  }
}

/** Walks through valid JSON. Returns the place of the first key that its object has already. */
function placeOfRepeatedKey(json: string): string | undefined {
  const levels: Level[] = [];
  for (let at = 0; at < json.length; at++) {
    const level = levels.at(-1);
    switch (json[at]) {
      case '{':
        levels.push({ keys: new Set(), member: '' });
        break;
      case '[':
        levels.push({ keys: undefined, member: 0 });
        break;
      case '}':
      case ']':
        levels.pop();
        break;
      case ',':
        if (level?.keys === undefined) nextItem(level);
        break;
      case '"': {
        const end = endOfText(json, at);
        if (level?.keys !== undefined && isKey(json, end)) {
          level.member = JSON.parse(json.slice(at, end)) as string;
          if (level.keys.has(level.member)) return placeOf(levels);
          level.keys.add(level.member);
        }
        at = end - 1;
      }
    }
  }
  return undefined;
}

function nextItem(level: Level | undefined): void {
  if (typeof level?.member === 'number') level.member += 1;
}

/** The place after the text that begins at `start`. */
function endOfText(json: string, start: number): number {
  let at = start + 1;
  while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1;
  return at + 1;
}

/** Whether the text that ends at `end` is a key: in an object only a key has a colon after it. */
function isKey(json: string, end: number): boolean {
  let at = end;
  while (/\s/.test(json.charAt(at))) at += 1;
  return json[at] === ':';
}

function placeOf(levels: readonly Level[]): string {
  return levels.reduce((place, { member }) => {
    if (typeof member === 'number') return `${place}[${member}]`;
    return `${place}${place === '' ? '' : '.'}${cut(member)}`;
  }, '');
}
