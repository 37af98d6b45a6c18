/** Records as lines of text. */

import { printable } from '../base/text.js';
import type {
  ConnectionEndEvent,
  ConnectionEvent,
  InfoRecord,
  ResolvedConnection,
} from '../codec/events.js';

const GREEN = 32;
const RED = 31;
const YELLOW = 33;

const useColor = process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '';

/** Colors `text` if standard output is a terminal and `NO_COLOR` is not set. */
function paint(text: string, color: number): string {
  return useColor ? `\x1b[${color}m${text}\x1b[0m` : text;
}

function verdictColor(verdict: string): number {
  if (verdict.includes('Accept')) return GREEN;
  return verdict.includes('Redirect') ? YELLOW : RED;
}

/** `192.0.2.1:80`, `[2001:db8::1]:80`, or the address alone if the protocol has no ports. */
export function endpointText(address: string, port: number, ipVersion: 4 | 6): string {
  if (port === 0) return address;
  return ipVersion === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

type AnyConnection = ConnectionEvent | ConnectionEndEvent | ResolvedConnection;

function processText(event: AnyConnection): string {
  if (event.processId === 0) return 'process unknown';
  const name = event.processPath?.split(/[\\/]/).at(-1);
  const known = name === undefined ? '' : ` ${printable(name)}`;
  return `process ${event.processId}${known}`;
}

/** A connection's direction, protocol, process and endpoints, in columns. */
export function connectionText(event: AnyConnection): string {
  const arrow = event.direction === 'outbound' ? '→' : '←';
  const local = endpointText(event.localAddress, event.localPort, event.ipVersion);
  const remote = endpointText(event.remoteAddress, event.remotePort, event.ipVersion);
  return [
    event.direction.padEnd(8),
    event.protocolName.padEnd(6),
    processText(event).padEnd(16),
    `${local.padEnd(21)} ${arrow} ${remote}`,
  ].join('  ');
}

/** The line of a decided connection. */
export function verdictLine(event: ConnectionEvent, verdict: string): string {
  return `${paint(verdict.padEnd(15), verdictColor(verdict))}  ${connectionText(event)}\n`;
}

/** The line of a record of any type. */
export function recordLine(record: InfoRecord): string {
  return `${record.type.padEnd(14)}  ${printable(recordText(record))}\n`;
}

function recordText(record: InfoRecord): string {
  switch (record.type) {
    case 'connection':
      return `${connectionText(record)}  id ${record.id}, ${record.payloadLength} bytes`;
    case 'connection-end':
      return connectionText(record);
    case 'bandwidth':
      return record.entries
        .map((entry) => {
          const local = endpointText(entry.localAddress, entry.localPort, record.ipVersion);
          const remote = endpointText(entry.remoteAddress, entry.remotePort, record.ipVersion);
          return `${local} ↔ ${remote} sent ${entry.transmittedBytes}, received ${entry.receivedBytes}`;
        })
        .join('; ');
    case 'log':
      return `${record.severity}: ${record.message}`;
    case 'lost':
      return `${record.count} records (${record.reason}). ${record.cure}`;
    case 'timeout':
      return record.connection === undefined
        ? `id ${record.id}`
        : `${connectionText(record.connection)}  id ${record.id}, ${record.cause}`;
    case 'stalled':
      return `${record.count} questions in ${record.durationMs} ms`;
    case 'unknown':
      return `record type ${record.recordType}, ${record.body.length} bytes`;
    case 'protocol-error':
      return record.error.message;
    case 'reply-end':
      return `command ${record.command}, number ${record.sequence}`;
    case 'connection-info':
      return `id ${record.id}, interface ${record.interfaceIndex}, compartment ${record.compartment}`;
    case 'connection-ended':
      return `id ${record.id}, sent ${record.transmitted}, received ${record.received} (${record.reason})`;
    case 'process-info':
      return `${record.processId} ${record.path}`;
  }
}
