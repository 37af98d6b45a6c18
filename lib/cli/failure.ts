/** Failures of the command line: an exit code, and one line that says what to do next. */

import { InvalidArgumentError, ProtocolError } from '../base/errors.js';

/** The program's exit codes. */
export const ExitCode = { Ok: 0, Failure: 1, BadInput: 2, Interrupted: 130 } as const;

/** A file or option that cannot be used as given. */
export class InputError extends Error {}

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file. Check the path',
  EISDIR: 'this is a folder. Name a file in it',
  ENOTDIR: 'a part of this path is not a folder. Check the path',
  EACCES: 'this file may not be read. Check its permissions',
  EPERM: 'this file may not be read. Check its permissions',
};

/** Makes an {@link InputError} of a file system error for `path`. */
export function fileError(path: string, cause: unknown): InputError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const problem = FILE_PROBLEMS[code] ?? `this file cannot be read (${messageOf(cause)})`;
  return new InputError(`${path}: ${problem}.`, { cause });
}

/** The exit code for an error: bad input differs from a failure of the program or the computer. */
export function exitCodeOf(error: unknown): number {
  const isInput =
    error instanceof InputError ||
    error instanceof InvalidArgumentError ||
    error instanceof ProtocolError;
  return isInput ? ExitCode.BadInput : ExitCode.Failure;
}

/** The error's message without the stack, which does not help a user. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
