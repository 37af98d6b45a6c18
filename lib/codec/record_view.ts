/**
 * A record as a view of the bytes it came in: a getter reads them when it is asked, so that a record costs nothing for
 * the fields that nobody asks for. A batch's bytes are never written again and live as long as one of its records does.
 * @internal
 */

import { formatIPv4, formatIPv6 } from './addresses.js';
import type { ProcessPaths } from './process_paths.js';
import type { Verdict } from './verdicts.js';

/** Who carries the verdicts of events out; ids come in two halves, to spare a bigint each. */
export interface VerdictSink {
  decide(idLow: number, idHigh: number, verdict: Verdict): void;
}

/** The batch that a record came in. */
export interface RecordSource {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly verdicts: VerdictSink | undefined;
  readonly processPaths: ProcessPaths;
  /** As of when the paths are to be seen. */
  readonly time: number;
}

const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;
const HIGH_WORD = 0x1_0000_0000;

/** What every event can do: show itself to `console.log` and to `JSON.stringify`. */
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
    return this.fields();
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

export function readNumber(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * HIGH_WORD;
}

export function formatAt(bytes: Uint8Array, offset: number, length: number): string {
  return length === 4 ? formatIPv4(bytes, offset) : formatIPv6(bytes, offset);
}

/**
 * The type is a constant of the prototype, where it costs an event neither memory nor time.
 */
export function defineType(eventClass: { readonly prototype: EventBase }, type: string): void {
  Object.defineProperty(eventClass.prototype, 'type', { value: type, enumerable: true });
}
