import { expect, test } from 'vitest';
import type { ConnectionEndEvent, ConnectionEvent } from '../../lib/index.js';
import { StreamInvariants } from './stream_invariants.js';

const ends = {
  protocol: 6,
  localAddress: '192.0.2.1',
  localPort: 50_000,
  remoteAddress: '198.51.100.7',
  remotePort: 443,
};
const connection = (id: bigint): ConnectionEvent =>
  ({ type: 'connection', id, ...ends }) as unknown as ConnectionEvent;
const end = (remotePort = 443): ConnectionEndEvent =>
  ({ type: 'connection-end', ...ends, remotePort }) as unknown as ConnectionEndEvent;

test.each([
  [
    'a connection, its end, and the next of the same ends',
    [connection(1n), end(), connection(2n), end()],
    0,
  ],
  ['an id that comes twice', [connection(1n), connection(1n)], 1],
  ['an id of 0', [connection(0n)], 1],
  ['an end without its connection', [connection(1n), end(80)], 1],
  ['a second end', [connection(1n), end(), end()], 1],
])('%s', (_, events, problems) => {
  const invariants = new StreamInvariants();
  for (const event of events) invariants.take(event);
  expect(invariants.problems).toHaveLength(problems);
});
