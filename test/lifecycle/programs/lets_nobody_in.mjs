// Lists the ways into this process from other processes, before and while a device is open.
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { createSimulator } from 'netverdict';
import { connect } from './connect.mjs';

/** Sockets, pipes, and files other than those that code is loaded from. */
function doors() {
  const isDoor = (target) => /^(?:socket|pipe):|^\/(?!.*\.(?:m?js|node|json)$)/.test(target);
  return readdirSync('/proc/self/fd')
    .map((descriptor) => {
      try {
        return readlinkSync(`/proc/self/fd/${descriptor}`);
      } catch {
        return ''; // descriptor of the listing itself
      }
    })
    .filter(isDoor)
    .sort();
}

/** Memory that other processes may also have mapped. */
const sharedMemory = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /^\S+ \S{3}s /.test(line) && !line.includes('io_uring'));

const before = [doors(), sharedMemory()];
const { device, network } = await createSimulator();
const { outcome } = connect(network);
const [{ value: event }] = [await device[Symbol.asyncIterator]().next()];
const whileOpen = [doors(), sharedMemory()];
event.accept();
await outcome;
await device.close();
console.log(
  JSON.stringify(before) === JSON.stringify(whileOpen) ? 'no way in' : [before, whileOpen],
);
