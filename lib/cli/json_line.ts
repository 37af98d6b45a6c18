import { printableJson } from '../base/text.js';
import type { InfoRecord } from '../codec/events.js';

/** A record as one line of printable JSON: bigints as decimal text, bytes as base64, the payload only on request. */
export function jsonLine(record: InfoRecord, withPayload: boolean): string {
  const fields = record.toJSON();
  if (!withPayload) delete fields['payload'];
  return `${printableJson(fields)}\n`;
}
