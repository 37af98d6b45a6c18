/** The summary of a replay as tables. */

import Table from 'cli-table3';
import { protocolName } from '../codec/protocols.js';
import type { ConnectionBandwidth, Tally, Traffic } from './tally.js';
import { endpointText } from './text.js';

/** The numbers of packets permitted, blocked, and held for a verdict. */
export interface PacketCounts {
  readonly permitted: number;
  readonly blocked: number;
  readonly held: number;
}

/** The number of busiest connections shown; `--json` prints all. */
const MAX_ROWS = 20;
const PLAIN = { style: { head: [], border: [], compact: true } };

type Cell = string | number;

function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const isNumber = (column: number): boolean => rows.some((row) => typeof row[column] === 'number');
  const result = new Table({
    ...PLAIN,
    head: [...head],
    colAligns: head.map((_, column) => (isNumber(column) ? 'right' : 'left')),
  });
  result.push(
    ...rows.map((row) =>
      row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)),
    ),
  );
  return `${result.toString()}\n`;
}

/** The tables: connections, verdicts, packets, losses and time; bandwidth in total and by connection. */
export function summaryTables(tally: Tally, packets: PacketCounts, seconds: number): string {
  return [
    '\n',
    table(['Replay', ''], overview(tally, packets, seconds)),
    '\n',
    table(['Bandwidth (bytes of payload)', 'sent', 'received'], bandwidthTotals(tally)),
    '\n',
    bandwidthByConnection(tally.bandwidthByConnection()),
  ].join('');
}

function overview(tally: Tally, packets: PacketCounts, seconds: number): Cell[][] {
  const { tcp, udp, other } = tally.connections;
  return [
    ['TCP connections', tcp],
    ['UDP connections', udp],
    ['other conversations', other],
    ...Object.entries(tally.verdicts).map(([name, count]) => [`verdicts ${name}`, count]),
    ['packets permitted', packets.permitted],
    ['packets blocked', packets.blocked],
    ['packets held for a verdict', packets.held],
    ['events lost', Number(tally.lost)],
    ['seconds', Number(seconds.toFixed(2))],
  ];
}

function bandwidthTotals(tally: Tally): Cell[][] {
  const { tcp, udp } = tally.bandwidthByProtocol();
  const row = (name: string, traffic: Traffic): Cell[] => [name, traffic.tx, traffic.rx];
  return [
    row('TCP over IPv4', tcp.v4),
    row('TCP over IPv6', tcp.v6),
    row('UDP over IPv4', udp.v4),
    row('UDP over IPv6', udp.v6),
  ];
}

function bandwidthByConnection(connections: readonly ConnectionBandwidth[]): string {
  if (connections.length === 0) return '';
  const rows = connections
    .slice(0, MAX_ROWS)
    .map((connection) => [
      protocolName(connection.protocol),
      endpointText(connection.localAddress, connection.localPort, connection.ipVersion),
      endpointText(connection.remoteAddress, connection.remotePort, connection.ipVersion),
      Number(connection.transmitted),
      Number(connection.received),
    ]);
  const hidden = connections.length - rows.length;
  const more = hidden > 0 ? `and ${hidden} more connections: --json prints them all\n` : '';
  return table(['', 'local', 'remote', 'sent', 'received'], rows) + more;
}
