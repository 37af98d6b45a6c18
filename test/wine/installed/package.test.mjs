// The packed package, installed in Windows, with the driver's binary: only the public API is used.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  open,
  BusyError,
  ClosedError,
  AccessDeniedError,
  InvalidArgumentError,
  service,
  ServiceStateError,
  Verdict,
} from 'netverdict';
import { connect, fileAppears, packet, runToEnd, within, withNetwork } from './computer.mjs';

const here = dirname(fileURLToPath(import.meta.url));

/** Decides on every connection by its remote port, until the device ends. */
async function decide(device, verdictOf) {
  const seen = [];
  for await (const event of device) {
    seen.push(event);
    if (event.type === 'connection') device.setVerdict(event.id, verdictOf(event.remotePort));
  }
  return seen;
}

async function runHere(program, file, node = process.execPath) {
  rmSync(file, { force: true });
  const child = spawn(node, [join(here, program), file], { stdio: 'ignore' });
  await fileAppears(file);
  return child;
}

/** Runs `netverdict driver …` and returns its standard output. */
async function driver(...args) {
  const program = join(here, 'node_modules', 'netverdict', 'dist', 'cli', 'main.js');
  const { code, stdout, stderr } = await runToEnd([program, 'driver', ...args]);
  assert.equal(code, 0, `netverdict driver ${args.join(' ')}: ${stderr}`);
  assert.equal(stderr, '');
  return stdout;
}

before(async () => {
  assert.equal((await service.status()).state, 'not-installed');
  await assert.rejects(open(), {
    code: 'ERR_NETVERDICT_NOT_FOUND',
    message: /Install and start the driver/,
  });
  await assert.rejects(service.start(), { code: 'ERR_NETVERDICT_NOT_FOUND' });
  await service.install();
  await service.start();
});

after(async () => {
  await service.stop();
  assert.equal((await service.status()).state, 'stopped');
  const { path } = await service.status();
  await service.remove();
  assert.equal((await service.status()).state, 'not-installed');
  assert.deepEqual(readdirSync(dirname(path)), []);
});

test('the service runs a copy of the driver of the package', async () => {
  const { state, path, startType } = await service.status();
  assert.equal(state, 'running');
  assert.match(path, /system32\\drivers\\netverdict\\NetVerdict\.sys$/i);
  assert.equal(startType, 'demand');
});

test('an existing service is not installed again, and a running one is not started again', async () => {
  await assert.rejects(service.install(), (error) => error instanceof ServiceStateError);
  await assert.rejects(service.start(), (error) => error instanceof ServiceStateError);
});

test('a missing device is not found, and the error has a hint', async () => {
  await assert.rejects(open({ path: String.raw`\\.\NoSuchDriver` }), {
    code: 'ERR_NETVERDICT_NOT_FOUND',
    message: /Install and start the driver/,
  });
});

for (const path of [
  String.raw`\\.\..\NetVerdict`,
  String.raw`\\?\NetVerdict`,
  String.raw`\\.\GLOBALROOT\Device\NetVerdict`,
  String.raw`\\.\C:`,
  'NetVerdict',
  '',
]) {
  test(`${JSON.stringify(path)} is no device's name`, async () => {
    await assert.rejects(open({ path }), (error) => error instanceof InvalidArgumentError);
  });
}

test('connections are reported and follow their verdicts', async () => {
  await withNetwork(async (network) => {
    const device = await open();
    const deciding = decide(device, (port) =>
      port === 23 ? Verdict.PermanentBlock : Verdict.PermanentAccept,
    );
    const telnet = connect(network, 23);
    const web = connect(network, 443);
    assert.equal(await telnet.outcome, 'blocked');
    assert.equal(await web.outcome, 'permitted');
    await device.close();
    const events = (await deciding).filter(({ type }) => type === 'connection');
    assert.deepEqual(events.map(({ remotePort }) => remotePort).sort(), [23, 443]);
    assert.equal(events[0].processId, 4242);
    assert.equal(events[0].remoteAddress, '192.0.2.1');
  });
});

test('bandwidth and logs come from the driver', async () => {
  await withNetwork(async (network) => {
    const device = await open({ logLevel: 'debug' });
    const deciding = decide(device, () => Verdict.PermanentAccept);
    const { id, outcome } = connect(network, 8080);
    assert.equal(await outcome, 'permitted');
    const sent = new Promise((resolve) => {
      network.send(id, new Uint8Array(1234), resolve);
    });
    await within(sent, 'the outcome of sending');
    const entry = (await device.getBandwidth()).find(({ remotePort }) => remotePort === 8080);
    assert.equal(entry?.transmittedBytes ?? entry?.transmitted, 1234n);
    assert.ok((await device.getLogs()).length > 0);
    await device.close();
    await deciding;
  });
});

// Windows refuses to open; Wine opens whatever the driver returns, and the driver refuses every request.
test('a second client is refused', async () => {
  const device = await open();
  try {
    await assert.rejects(
      open(),
      (error) =>
        error instanceof BusyError ||
        error instanceof AccessDeniedError ||
        error instanceof ClosedError,
    );
    await device.getStatistics();
  } finally {
    await device.close();
  }
});

test('shutdown resolves held packets and ends the stream', async () => {
  await withNetwork(async (network) => {
    const device = await open({ failPolicy: 'closed' });
    const events = device.events({ types: ['connection'] });
    const { outcome } = connect(network, 25);
    await within(events.next(), 'the connection');
    device.shutdown();
    assert.equal(await outcome, 'blocked');
    assert.equal((await within(events.next(), 'the end')).done, true);
    await device.close();
  });
});

test('the device still answers after it is opened and closed twenty times', async () => {
  for (let cycle = 0; cycle < 20; cycle++) {
    const device = await open();
    assert.equal(typeof device.version().major, 'number');
    await device.close();
  }
});

test('the end of a process with pending reads releases a held connection and a held packet', async () => {
  await withNetwork(async (network) => {
    const held = (count) => join(here, `held${count}.txt`);
    for (const count of [1, 2]) rmSync(held(count), { force: true });
    const child = spawn(process.execPath, [join(here, 'holding_client.mjs'), join(here, 'held')], {
      stdio: 'ignore',
    });
    // The client may still be opening: until then connections are permitted.
    let connection;
    for (let port = 1000; connection === undefined; port++) {
      const { outcome } = connect(network, port);
      const first = await Promise.race([outcome, fileAppears(held(1)).then(() => 'held')]);
      if (first === 'held') connection = outcome;
    }
    const sent = packet(network);
    assert.equal(await Promise.race([sent, fileAppears(held(2)).then(() => 'held')]), 'held');
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await within(ended, "the client's end");
    assert.deepEqual(await Promise.all([connection, sent]), ['permitted', 'permitted']);
    const device = await open();
    await device.close();
  });
});

test('the addon loads in a program with another name', async () => {
  const electron = join(here, 'electron.exe');
  const file = join(here, 'opened.txt');
  copyFileSync(process.execPath, electron);
  const child = await runHere('opening_client.mjs', file, electron);
  if (child.exitCode === null) await within(once(child, 'exit'), "the program's end");
  assert.match(readFileSync(file, 'utf8'), /^electron\.exe \d+$/);
});

test('the command line stops, removes, installs and starts the driver, and reports each step', async () => {
  const state = async () => JSON.parse(await driver('status', '--json')).state;
  assert.equal(await state(), 'running');
  assert.match(await driver('stop'), /^NetVerdict: stopped, .*netverdict\.sys\n$/i);
  assert.equal(await state(), 'stopped');
  assert.equal(await driver('remove'), 'NetVerdict: not-installed\n');
  assert.equal(await state(), 'not-installed');
  assert.match(
    await driver('install', '--start-type', 'demand'),
    /^Copied to .*netverdict\\NetVerdict\.sys, which only administrators may write\.\nNetVerdict: stopped, /i,
  );
  assert.match(await driver('start'), /^NetVerdict: running, .*netverdict\.sys\n$/i);
  assert.equal(await state(), 'running');
});

test('a driver of the same version is not updated', async () => {
  assert.equal(await service.update(), 'unchanged');
  assert.match(
    await driver('update'),
    /^The service has this version already\.\nNetVerdict: running, /,
  );
});

// Without the stand-in for the owner, Wine says that the folder belongs to its user.
test('nothing is installed if the folder of the copies belongs to a user', async () => {
  const program = join(here, 'node_modules', 'netverdict', 'dist', 'cli', 'main.js');
  const { code, stderr } = await runToEnd([program, 'driver', 'install', '--name', 'Refused'], {
    ...process.env,
    NODE_OPTIONS: '',
  });
  assert.equal(code, 1);
  assert.match(stderr, /others than administrators may write in system32.drivers.netverdict/);
  assert.equal((await service.status({ name: 'Refused' })).state, 'not-installed');
});

test('the command line exits with 1 and a reason if the driver cannot be started', async () => {
  const program = join(here, 'node_modules', 'netverdict', 'dist', 'cli', 'main.js');
  const { code, stdout, stderr } = await runToEnd([program, 'driver', 'start', '--name', 'NoSuch']);
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^netverdict: .*not installed/i);
});
