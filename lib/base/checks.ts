/** Checks of the caller's arguments. Their errors name the invalid part. @internal */

import { types } from 'node:util';
import { z } from 'zod';
import { InvalidArgumentError, NetVerdictError } from './errors.js';

/**
 * Parses `value`, or throws an error that names `what` and the path to the invalid part.
 *
 * @throws InvalidArgumentError for an invalid value.
 */
export function check<T extends z.ZodType>(schema: T, value: unknown, what: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) {
    return result.data;
  }
  const problems = result.error.issues.map((issue) => describeIssue(issue));
  throw new InvalidArgumentError(`${what}: ${problems.join('; ')}.`, { cause: result.error });
}

/** Describes an issue as `rules[2].remote.port: problem`. */
export function describeIssue(issue: z.core.$ZodIssue): string {
  const place = formatPath(issue.path);
  return place === '' ? issue.message : `${place}: ${issue.message}`;
}

export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') {
      return `${text}[${key}]`;
    }
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
}

export const portSchema = z.int().min(0).max(0xffff);
export const processIdSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Accepts a Uint8Array of any realm. */
export const bytesSchema = z.custom<Uint8Array>(types.isUint8Array, 'must be a Uint8Array');

/** Accepts text that `parse` accepts. An error of `parse` becomes the issue. */
export function parsed<T>(parse: (text: string) => T): z.ZodType<T, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof NetVerdictError) {
        context.addIssue(error.message.replace(/\.$/, ''));
        return z.NEVER;
      }
      throw error;
    }
  });
}

/** Accepts an AbortSignal of any realm: it checks the members in use, not the class. */
export const signalSchema = z.custom<AbortSignal>(
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    'aborted' in value &&
    'addEventListener' in value &&
    typeof value.addEventListener === 'function',
  'must be an AbortSignal',
);
