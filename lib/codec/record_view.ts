/**
 * Records as views of the bytes they arrived in.
 *
 * A getter reads its field on access, so a field that nobody reads costs nothing.
 * The bytes of a batch are never overwritten. They live as long as any record of the batch.
 * @internal
 */

import { printable } from '../base/text.js';
import type { ProcessPaths } from './process_paths.js';
import type { Verdict } from './verdicts.js';

/** Receives the verdicts of events. An id comes as two 32-bit halves, which saves a bigint per verdict. */
export interface VerdictSink {
  decide(idLow: number, idHigh: number, verdict: Verdict): void;
}

/** The batch in which a record arrived. */
export interface RecordSource {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly verdicts: VerdictSink | undefined;
  readonly processPaths: ProcessPaths;
  /** The time of `processPaths` at which the record arrived. */
  readonly time: number;
}

const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

/** The base of all records: it shows a record to `console.log` and to `JSON.stringify`. */
export abstract class EventBase {
  /** @internal */
  abstract fields(): Record<string, unknown>;

  /** The event as plain JSON: bigints as decimal text, bytes as base64. */
  toJSON(): Record<string, unknown> {
    return Object.fromEntries(
      Object.entries(this.fields()).map(([name, value]) => [name, jsonSafe(value)]),
    );
  }

  /** @internal */
  [INSPECT](): Record<string, unknown> {
    return Object.fromEntries(
      Object.entries(this.fields()).map(([name, value]) => [
        name,
        typeof value === 'string' ? printable(value) : value,
      ]),
    );
  }
}

function jsonSafe(value: unknown): unknown {
  if (typeof value === 'bigint') {
    return value.toString();
  }
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64');
  }
  if (Array.isArray(value)) {
    return value.map(jsonSafe);
  }
  return value instanceof EventBase ? value.toJSON() : value;
}

/** Defines `type` on the prototype, where it costs an event neither memory nor time. */
export function defineType(eventClass: { readonly prototype: EventBase }, type: string): void {
  Object.defineProperty(eventClass.prototype, 'type', { value: type, enumerable: true });
}
