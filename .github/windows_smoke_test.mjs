// Takes a driver through its life on a real Windows: install, start, decide over a connection of our own, stop, remove.
//   node windows_smoke_test.mjs <netverdict.sys> [--may-be-refused]
// With --may-be-refused, Windows may refuse the driver's signature: that is said, and is no failure.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { createRequire } from 'node:module';

const { BusyError, DriverRefusedError, Verdict, open, service } = createRequire(import.meta.url)(
  '..',
);

const [sysPath, ...flags] = process.argv.slice(2);
const name = 'NetVerdict';

async function decideOverOwnConnection() {
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const device = await open();
  console.log('driver', device.version());
  await assert.rejects(open(), BusyError, 'a second client is told that there is one');
  let seen = false;
  const events = (async () => {
    for await (const event of device) {
      if (event.type !== 'connection') continue;
      seen ||= event.remotePort === port || event.localPort === port;
      device.setVerdict(event.id, Verdict.PermanentAccept);
    }
  })();
  const client = connect(port, '127.0.0.1');
  await once(client, 'connect');
  client.destroy();
  server.close();
  await device.shutdown();
  await events;
  await device.close();
  assert(seen, 'the driver told of our own connection');
}

assert.equal((await service.status()).state, 'not-installed');
await service.install({ sysPath, name });
try {
  await service.start();
  assert.equal((await service.status()).state, 'running');
  await decideOverOwnConnection();
  await service.stop();
  assert.equal((await service.status()).state, 'stopped');
} catch (error) {
  if (!(error instanceof DriverRefusedError && flags.includes('--may-be-refused'))) throw error;
  console.log(`::warning::The driver was not loaded: ${error.message}`);
} finally {
  await service.remove();
}
assert.equal((await service.status()).state, 'not-installed');
console.log('ok');
