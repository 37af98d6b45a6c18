import type { InfoRecord } from '../codec/events.js';

/** An event as one line of JSON: bigints as decimal text, bytes as base64, the payload only where it is asked for. */
export function jsonLine(record: InfoRecord, withPayload: boolean): string {
  const fields = record.toJSON();
  if (!withPayload) delete fields['payload'];
  return `${JSON.stringify(fields)}\n`;
}
