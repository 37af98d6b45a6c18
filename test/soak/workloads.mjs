/**
 * The workloads of a computer; each one runs until it is stopped, and counts what it completes.
 * Every outcome of the traffic is accepted.
 */

import { fileURLToPath } from 'node:url';
import { ClosedError, DriverShutdownError } from '../../dist/index.mjs';

const CAPTURE = fileURLToPath(new URL('../../captures/host-traffic.pcap', import.meta.url));
/** An id without a connection: the driver's ids count up from 1. */
let unknownId = 1n << 40n;
const REMOTE = { 4: '198.51.100.', 6: '2001:db8:ffff::' };
const LOCAL = { 4: '192.0.2.10', 6: '2001:db8::10' };
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Ignores the errors of work that the end of a client or of a computer interrupts. */
export function unlessEnded(error) {
  if (!(error instanceof ClosedError || error instanceof DriverShutdownError)) throw error;
}

function remoteEnd(random, ipVersion) {
  return {
    address: `${REMOTE[ipVersion]}${1 + random.below(250)}`,
    port: random.oneOf([53, 80, 443, 9999, 1 + random.below(65_535)]),
  };
}

/** Connections of all kinds, with data in both directions. */
async function flows({ network, random, counts, stopped }) {
  const failures = [];
  while (!stopped()) {
    if (failures.length > 0) throw failures[0];
    const ipVersion = random.oneOf([4, 6]);
    const common = { processId: 100 + random.below(20), protocol: random.oneOf(['tcp', 'udp']) };
    const flow =
      random.below(4) === 0
        ? network.accept({
            ...common,
            local: { address: LOCAL[ipVersion], port: 1 + random.below(1024) },
          })
        : network.connect({ ...common, remote: remoteEnd(random, ipVersion) });
    const exchange = async () => {
      await flow.outcome;
      for (let i = random.below(4); i > 0 && !stopped(); i--) {
        await flow.send(random.bytes(1 + random.below(3000)));
        await flow.receive(random.bytes(1 + random.below(3000)));
      }
      flow.close();
      counts.exchanges += 1;
    };
    void exchange()
      .catch(unlessEnded)
      .catch((error) => failures.push(error));
    await pause(random.below(3));
  }
}

/** Bursts from a native thread. */
async function bursts({ network, random, counts, stopped }) {
  while (!stopped()) {
    await network.load({
      connections: 2000,
      inFlight: 1 + random.below(512),
      protocol: random.oneOf(['tcp', 'udp']),
      ipVersion: random.oneOf([4, 6]),
      packetsPerConnection: random.below(4),
      payloadLength: random.below(1400),
    });
    counts.bursts += 1;
    await pause(50);
  }
}

/** Raw packets, most of them malformed. */
async function packets({ network, random, counts, stopped }) {
  const failures = [];
  while (!stopped()) {
    if (failures.length > 0) throw failures[0];
    const packet = random.bytes(1 + random.below(200));
    packet[0] = random.oneOf([0x45, 0x46, 0x4f, 0x60, packet[0]]);
    if (packet.length > 40 && random.below(2) === 0) {
      packet[packet[0] >> 4 === 6 ? 6 : 9] = random.oneOf([1, 6, 17, 44, 58]);
    }
    void network
      .packet(packet, random.oneOf(['inbound', 'outbound']))
      .then(() => (counts.rawPackets += 1))
      .catch(unlessEnded)
      .catch((error) => failures.push(error));
    await pause(random.below(4));
  }
}

/** Replays of real traffic. */
async function replays({ network, counts, stopped }) {
  while (!stopped()) {
    await network.replay(CAPTURE, { local: ['10.77.0.2', 'fd77::2'] });
    counts.replays += 1;
    await pause(200);
  }
}

/** Returns whether the command succeeded; it does not if a fault was injected into its call. */
export async function unlessOutOfMemory(command) {
  try {
    await command();
    return true;
  } catch (error) {
    if (!/out of memory/.test(error.message)) throw error;
    return false;
  }
}

/** Sends every command of a client. */
export async function commands({ device, network, random, counts, stopped }) {
  const all = [
    () => device.getBandwidth(),
    () => device.getLogs(),
    () => device.getStatistics(),
    () => device.printMemoryStats(),
    () => device.cleanEndedConnections(),
    () => device.clearCache(),
    () => network.reauthorize(),
    () => device.setVerdict(unknownId++, 2 + random.below(10)),
  ];
  while (!stopped()) {
    if (await unlessOutOfMemory(random.oneOf(all))) counts.commands += 1;
    await pause(random.below(50));
  }
}

/** The workloads that run with and without a client. */
export const NETWORK = { flows, bursts, packets, replays };
