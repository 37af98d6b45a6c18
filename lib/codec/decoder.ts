/** The decoder of the driver's byte stream, for applications that have only the bytes. */

import { types } from 'node:util';
import { InvalidArgumentError, type ProtocolError } from '../base/errors.js';
import type { InfoRecord } from './events.js';
import { RecordDecoder } from './record_decoder.js';

/**
 * Decodes the driver's stream of info records from pieces of any size.
 *
 * Records read their fields from the pieces on access: do not overwrite bytes that were pushed.
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

  /** The number of bytes at hand of a record that is still incomplete. */
  get pendingBytes(): number {
    return this.#decoder.pendingBytes;
  }

  /** The reason why decoding ended, once a record's length has shown that the stream is corrupt. */
  get failure(): ProtocolError | undefined {
    return this.#decoder.failure;
  }

  /**
   * Decodes the next piece. Returns the records that it completes, in order.
   *
   * A record whose length contradicts its type becomes a `protocol-error` event.
   * A record of an unknown type becomes an `unknown` event.
   * A record longer than 16 MiB means that the stream is corrupt.
   * The call then returns the records before it and sets `failure`, which every further call throws.
   *
   * @throws {@link ProtocolError} when the stream is corrupt and no record came before.
   * @throws {@link InvalidArgumentError} when `bytes` is not a Uint8Array.
   */
  push(bytes: Uint8Array): InfoRecord[] {
    return this.#decoder.push(plainBytes(bytes));
  }

  /**
   * Ends the stream.
   *
   * @throws {@link ProtocolError} when the stream is corrupt or ends within a record.
   */
  end(): void {
    this.#decoder.end();
  }
}

/**
 * Decodes a buffer of whole info records.
 *
 * @throws {@link ProtocolError} when the buffer is corrupt or ends within a record.
 * @throws {@link InvalidArgumentError} when `bytes` is not a Uint8Array.
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

/** A view that is not a Buffer: slices of a Buffer would not be copies. */
function plainBytes(bytes: Uint8Array): Uint8Array {
  if (!types.isUint8Array(bytes)) {
    throw new InvalidArgumentError('The bytes to decode must be a Uint8Array, such as a Buffer.');
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}
