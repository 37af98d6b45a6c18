/** `netverdict decode`: prints a recorded info stream as text or JSON. */

import { createReadStream } from 'node:fs';
import type { Command } from 'commander';
import { InfoDecoder } from '../codec/decoder.js';
import type { InfoRecord } from '../codec/events.js';
import { ExitCode, InputError, fileError, messageOf } from './failure.js';
import { jsonLine } from './json_line.js';
import { complain, write } from './output.js';
import { recordLine } from './text.js';

/** Small, because the lines of a chunk of tiny records take many times its size. */
const CHUNK_SIZE = 64 * 1024;

interface DecodeOptions {
  readonly json?: true;
  readonly payload?: true;
}

/** Adds the command to the program. */
export function addDecodeCommand(program: Command): void {
  program
    .command('decode')
    .description("decode a recorded info stream: the bytes of the driver's reads, back to back")
    .argument('<file>', "the recording, or '-' for standard input")
    .option('--json', 'print one JSON object a line')
    .option('--payload', 'with --json: print the payload of connections too, as base64')
    .helpOption('--help', 'print this help')
    .action(async (file: string, options: DecodeOptions, command: Command) => {
      if (options.payload && !options.json)
        command.error("error: option '--payload' needs '--json'");
      await decode(file, options);
    });
}

async function decode(file: string, options: DecodeOptions): Promise<void> {
  const decoder = new InfoDecoder();
  const print = (record: InfoRecord): string =>
    options.json ? jsonLine(record, options.payload === true) : recordLine(record);
  let malformed = 0;
  for await (const bytes of chunksOf(file)) {
    const records = checked(file, () => decoder.push(bytes));
    malformed += records.filter((record) => record.type === 'protocol-error').length;
    await write(records.map(print).join(''));
    if (decoder.failure !== undefined) break;
  }
  checked(file, () => {
    decoder.end();
  });
  if (malformed > 0) {
    complain(
      `${file}: ${malformed} malformed record${malformed === 1 ? ' was' : 's were'} skipped: see the protocol-error lines.`,
    );
    process.exitCode = ExitCode.BadInput;
  }
}

async function* chunksOf(file: string): AsyncGenerator<Uint8Array> {
  const stream: AsyncIterable<Uint8Array> =
    file === '-' ? process.stdin : createReadStream(file, { highWaterMark: CHUNK_SIZE });
  const chunks = stream[Symbol.asyncIterator]();
  for (;;) {
    const next = await chunks.next().catch((cause: unknown) => {
      throw fileError(file, cause);
    });
    if (next.done === true) return;
    yield next.value;
  }
}

/** Runs a step of the decoder, and adds the file's name to its error. */
function checked<T>(file: string, step: () => T): T {
  try {
    return step();
  } catch (cause) {
    throw new InputError(
      `${file}: ${firstSentence(messageOf(cause))} Check that the file is a whole recorded info stream.`,
      { cause },
    );
  }
}

/** Drops the advice of a codec error, which is about a device and not about a file. */
function firstSentence(message: string): string {
  return /^.*?\.(?= |$)/s.exec(message)?.[0] ?? message;
}
