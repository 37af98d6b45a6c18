// Takes a driver through its life on real Windows: install, start, decide on one connection, stop, remove.
//   node windows_smoke_test.mjs <netverdict.sys>
// It ends with code 0 and the line `ok`, with code 1 after a failure, and with code 3 if Windows refuses the driver's
// signature: then nothing was tested.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { createRequire } from 'node:module';

const { BusyError, DriverRefusedError, Verdict, open, service } = createRequire(import.meta.url)(
  '..',
);

const REFUSED = 3;

const [sysPath] = process.argv.slice(2);
const name = 'NetVerdict';

async function decideOnOwnConnection() {
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const device = await open();
  console.log('driver', device.version());
  await assert.rejects(open(), BusyError, 'a second client is refused');
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
  assert(seen, 'the driver reported the connection of this test');
}

assert.equal((await service.status()).state, 'not-installed');
await service.install({ sysPath, name });
try {
  await service.start();
  assert.equal((await service.status()).state, 'running');
  await decideOnOwnConnection();
  await service.stop();
  assert.equal((await service.status()).state, 'stopped');
} catch (error) {
  if (!(error instanceof DriverRefusedError)) throw error;
  console.log(`Not tested, because the driver was not loaded: ${error.message}`);
  process.exitCode = REFUSED;
} finally {
  await service.remove();
}
assert.equal((await service.status()).state, 'not-installed');
if (process.exitCode !== REFUSED) console.log('ok');
