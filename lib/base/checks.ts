/**
 * Checks of the caller's arguments and of files. Their errors name the invalid part.
 *
 * A schema reads a value and reports each problem with the place of the invalid part.
 * What it returns counts only if it has reported nothing.
 * @internal
 */

import { types } from 'node:util';
import { InvalidArgumentError, NetVerdictError } from './errors.js';
import { cut, quoted } from './text.js';

export type Schema<T> = (value: unknown, place: Place) => T;

/** What a schema returns. */
export type Checked<S> = S extends Schema<infer T> ? T : never;

/** An error lists this many problems. The check ends at the next one. */
const MAX_PROBLEMS = 10;

const INVALID = undefined as never;

class TooManyProblems extends Error {}

/** The place of a value within the checked one, and the problems of the whole check. */
export class Place {
  readonly problems: string[];
  readonly #path: string;

  constructor(problems: string[] = [], path = '') {
    this.problems = problems;
    this.#path = path;
  }

  /** The place of a member. `note` follows its name in messages. */
  at(key: string | number, note = ''): Place {
    const name =
      typeof key === 'number' ? `[${key}]` : `${this.#path === '' ? '' : '.'}${cut(key)}`;
    return new Place(this.problems, `${this.#path}${name}${note}`);
  }

  /** Reports a problem. The schema's result does not count any more. */
  report(problem: string): never {
    if (this.problems.length === MAX_PROBLEMS) {
      throw new TooManyProblems();
    }
    this.problems.push(this.#path === '' ? problem : `${this.#path}: ${problem}`);
    return INVALID;
  }
}

/**
 * Reads `value`, or throws an error that begins with `what` and names each invalid part.
 *
 * @throws InvalidArgumentError for an invalid value.
 */
export function check<T>(schema: Schema<T>, value: unknown, what: string): T {
  const place = new Place();
  let more = '';
  try {
    const result = schema(value, place);
    if (place.problems.length === 0) {
      return result;
    }
  } catch (error) {
    if (!(error instanceof TooManyProblems)) {
      throw error;
    }
    more = '; and more';
  }
  throw new InvalidArgumentError(`${what}: ${place.problems.join('; ')}${more}.`);
}

/** Accepts what `isValid` accepts. The message says what a value must be. */
export function custom<T>(isValid: (value: unknown) => boolean, message: string): Schema<T> {
  return (value, place) => (isValid(value) ? (value as T) : place.report(not(message, value)));
}

export function integer(min: number, max: number): Schema<number> {
  return custom(
    (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
    `must be a whole number from ${min} to ${max}`,
  );
}

/** Accepts a finite number of at least 0. */
export const amount: Schema<number> = custom(
  (value) => Number.isFinite(value) && (value as number) >= 0,
  'must be a number of at least 0',
);

export const flag: Schema<boolean> = custom(
  (value) => typeof value === 'boolean',
  'must be true or false',
);

export function text(min = 0, max = Infinity): Schema<string> {
  return custom(
    (value) => typeof value === 'string' && value.length >= min && value.length <= max,
    max === Infinity ? 'must be text' : `must be text of ${min} to ${max} characters`,
  );
}

/** Accepts one of `choices`. */
export function choice<const T extends string | number>(choices: readonly T[]): Schema<T> {
  return custom(
    (value) => (choices as readonly unknown[]).includes(value),
    `must be one of ${choices.join(', ')}`,
  );
}

export function optional<T>(schema: Schema<T>): Schema<T | undefined> {
  return (value, place) => (value === undefined ? undefined : schema(value, place));
}

/** An absent value is read as `given`. */
export function withDefault<T>(schema: Schema<T>, given: unknown): Schema<T> {
  return (value, place) => schema(value === undefined ? given : value, place);
}

type Shape = Readonly<Record<string, Schema<unknown>>>;
type Members<S extends Shape> = { [K in keyof S]: Checked<S[K]> };

/** Accepts an object with these members and no others. Absent members are read as undefined. */
export function object<S extends Shape>(shape: S): Schema<Members<S>> {
  const members = Object.entries(shape);
  return (value, place) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return place.report(not('must be an object', value));
    }
    for (const key of Object.keys(value)) {
      if (!Object.hasOwn(shape, key)) {
        place.at(key).report('is not known: leave it out, or check its spelling');
      }
    }
    const given = value as Readonly<Record<string, unknown>>;
    return Object.fromEntries(
      members.map(([key, schema]) => [key, schema(given[key], place.at(key))]),
    ) as Members<S>;
  };
}

export function list<T>(schema: Schema<T>): Schema<T[]> {
  return (value, place) =>
    Array.isArray(value)
      ? Array.from(value, (item, index) => schema(item, place.at(index)))
      : place.report(not('must be a list', value));
}

/** Accepts one value or a list of some. */
export function oneOrMore<T>(schema: Schema<T>): Schema<T[]> {
  return (value, place) => {
    if (!Array.isArray(value)) {
      return [schema(value, place)];
    }
    return value.length === 0
      ? place.report('must not be an empty list: leave the field out to match anything')
      : list(schema)(value, place);
  };
}

/** Accepts text that `parse` accepts. An error of `parse` becomes the problem. */
export function parsed<T>(parse: (text: string) => T): Schema<T> {
  return (value, place) => {
    if (typeof value !== 'string') {
      return place.report(not('must be text', value));
    }
    try {
      return parse(value);
    } catch (error) {
      if (error instanceof NetVerdictError) {
        return place.report(error.message.replace(/\.$/, ''));
      }
      throw error;
    }
  };
}

export const portSchema = integer(0, 0xffff);
export const processIdSchema = integer(0, Number.MAX_SAFE_INTEGER);

/** Accepts a Uint8Array of any realm. */
export const bytesSchema: Schema<Uint8Array> = custom(
  (value) => types.isUint8Array(value),
  'must be a Uint8Array',
);

/** Accepts an AbortSignal of any realm: it checks the members in use, not the class. */
export const signalSchema: Schema<AbortSignal> = custom(
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    'aborted' in value &&
    'addEventListener' in value &&
    typeof value.addEventListener === 'function',
  'must be an AbortSignal',
);

function not(message: string, value: unknown): string {
  return `${message}${value === undefined ? '; it is missing' : `, not ${quoted(value)}`}`;
}
