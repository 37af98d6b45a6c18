/** The decoder of the driver's byte stream, for applications that have the bytes alone. */

import { types } from 'node:util';
import { InvalidArgumentError, type ProtocolError } from '../base/errors.js';
import type { InfoRecord } from './events.js';
import { RecordDecoder } from './record_decoder.js';

/**
 * Decodes the driver's stream of info records, in whatever pieces it comes.
 *
 * The events read their fields from the pieces lazily: bytes once pushed must not be written again.
 *
 * @example
 * ```ts
 * const decoder = new InfoDecoder();
 * for await (const chunk of createReadStream('recorded-stream.bin')) {
 *   for (const record of decoder.push(chunk)) console.log(record);
 * }
 * decoder.end();
 * ```
 */
export class InfoDecoder {
  readonly #decoder = new RecordDecoder();

  /** How many bytes of an incomplete record wait for their rest. */
  get pendingBytes(): number {
    return this.#decoder.pendingBytes;
  }

  /** Why the stream cannot be read on, once a record's length showed that it is corrupt. */
  get failure(): ProtocolError | undefined {
    return this.#decoder.failure;
  }

  /**
   * Decodes the next piece and returns the records that are now complete, in order.
   *
   * A record whose length contradicts its kind becomes a `protocol-error` event, one of an unknown kind an `unknown`
   * event. A length above 16 MiB means that the stream is corrupt: the records before it are returned, then `failure`
   * is set and nothing more can be pushed.
   *
   * @throws {@link ProtocolError} when the stream is corrupt and there were no records before.
   */
  push(bytes: Uint8Array): InfoRecord[] {
    return this.#decoder.push(plainBytes(bytes));
  }

  /**
   * Says that no more bytes come.
   *
   * @throws {@link ProtocolError} when the stream was corrupt or ends within a record.
   */
  end(): void {
    this.#decoder.end();
  }
}

/**
 * Decodes a buffer of whole info records.
 *
 * @throws {@link ProtocolError} when the buffer is corrupt or ends within a record.
 * @example
 * ```ts
 * const events = parseInfo(readFileSync('recorded-stream.bin'));
 * ```
 */
export function parseInfo(bytes: Uint8Array): InfoRecord[] {
  const decoder = new InfoDecoder();
  const records = decoder.push(bytes);
  decoder.end();
  return records;
}

/** Not a Buffer, whose slices would not be copies. */
function plainBytes(bytes: Uint8Array): Uint8Array {
  if (!types.isUint8Array(bytes)) {
    throw new InvalidArgumentError('The bytes to decode must be a Uint8Array, such as a Buffer.');
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}
