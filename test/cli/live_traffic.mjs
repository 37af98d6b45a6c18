// Creates real traffic between two addresses of this (empty) network namespace, and captures it.
// Usage: unshare --net node live_traffic.mjs <capture file>
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const [file] = process.argv.slice(2);
const pairs = [
  { local: '10.99.0.1', remote: '10.99.0.2', udp: 'udp4' },
  { local: 'fd99::1', remote: 'fd99::2', udp: 'udp6' },
];

function ip(...args) {
  execFileSync('ip', args);
}

function prepareNamespace() {
  ip('link', 'set', 'lo', 'up');
  for (const { local, remote, udp } of pairs) {
    const length = udp === 'udp4' ? 32 : 128;
    for (const address of [local, remote])
      ip('address', 'add', `${address}/${length}`, 'dev', 'lo');
  }
}

async function startCapture() {
  const capture = spawn('dumpcap', ['-q', '-i', 'lo', '-w', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  for await (const text of capture.stderr) if (String(text).includes('File:')) break;
  return capture;
}

/** Sends a marker until the capture has it: then all earlier packets are in the file too. */
async function awaitInCapture(marker) {
  const socket = createSocket('udp4');
  socket.bind(0, pairs[0].local);
  await once(socket, 'listening');
  do {
    socket.send(marker, 40_000, pairs[0].remote);
    await sleep(20);
  } while (!readFileSync(file).includes(marker));
  socket.close();
}

async function listen(server, address) {
  server.listen(0, address);
  await once(server, 'listening');
  return server.address().port;
}

/** One connection on which each end sends the given number of random bytes. */
async function exchange(from, to, sent, received) {
  const server = createServer({ allowHalfOpen: true }, (peer) => {
    peer.resume().on('end', () => peer.end(randomBytes(received)));
  });
  const port = await listen(server, to);
  const socket = connect({ host: to, port, localAddress: from, allowHalfOpen: true });
  socket.end(randomBytes(sent));
  await buffer(socket);
  server.close();
}

/** Waits for the end of a socket that fails on purpose. */
function failed(socket) {
  socket.on('error', () => undefined);
  return new Promise((resolve) => socket.on('close', resolve));
}

/** A connection that a reset ends while data is in transit. */
async function reset(from, to) {
  const server = createServer((peer) =>
    peer.write(randomBytes(5000), () => peer.resetAndDestroy()),
  );
  const port = await listen(server, to);
  await failed(connect({ host: to, port, localAddress: from }).resume());
  server.close();
}

async function refused(from, to) {
  await failed(connect({ host: to, port: 9, localAddress: from }));
}

async function datagrams({ local, remote, udp }) {
  const server = createSocket(udp);
  server.on('message', (bytes, from) =>
    server.send(bytes.subarray(0, 10), from.port, from.address),
  );
  server.bind(0, remote);
  await once(server, 'listening');
  const client = createSocket(udp);
  client.bind(0, local);
  await once(client, 'listening');
  for (const length of [0, 1, 512, 1400]) {
    client.send(randomBytes(length), server.address().port, remote);
    await once(client, 'message');
  }
  client.close();
  server.close();
}

prepareNamespace();
const capture = await startCapture();
await awaitInCapture('the first marker');
for (const pair of pairs) {
  const { local, remote } = pair;
  await exchange(local, remote, 20, 3_000_000);
  await exchange(remote, local, 1_000_000, 20);
  await Promise.all(Array.from({ length: 8 }, () => exchange(local, remote, 30_000, 40_000)));
  await reset(local, remote);
  await refused(local, remote);
  await datagrams(pair);
}
await awaitInCapture('the last marker');
capture.kill('SIGINT');
await once(capture, 'close');
