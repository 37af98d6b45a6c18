/** The command line's standard output. */

import { once } from 'node:events';
import { printable } from '../base/text.js';

/** Exits without an error when the reader closes the pipe, as `| head` does. */
export function endQuietlyOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      process.exit(0);
    });
  }
}

/** Writes a line to standard error. It may have text of programs and files. */
export function complain(problem: string): void {
  process.stderr.write(`netverdict: ${printable(problem)}\n`);
}

/** Writes to standard output, and waits for a slow reader. */
export async function write(text: string): Promise<void> {
  if (text !== '' && !process.stdout.write(text)) await once(process.stdout, 'drain');
}
