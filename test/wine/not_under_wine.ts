/** The tests that cannot run under Wine, each with the reason. */

export interface NotUnderWine {
  /** A file of test/scenarios, test/lifecycle or test/lib. */
  readonly file: string;
  /** The test's title. */
  readonly test: string;
  readonly reason: string;
}

const MINUTES = 'it lets minutes pass, and time under Wine is real';
const ONE_DEVICE = 'it opens devices side by side, and the driver lets one program have one';
const OUTCOMES =
  'it waits for outcomes, and the read that brings them under Wine would keep the process';
const NOT_WINDOWS = 'it is about systems other than Windows';
const SIMULATOR = 'it is about the simulation within a process, which is in the kernel under Wine';

const LIFECYCLE: Readonly<Record<string, string>> = {
  'that aborts while a connection is held ends at once': 'Windows has no signal to abort by',
  'that handles its own failure closes the device, and the fail policy decides on held packets':
    OUTCOMES,
  'may fork, and both processes continue with separate devices': ONE_DEVICE,
  'keeps no handle and no memory of closed devices': OUTCOMES,
  'that stops reading for half a minute receives the exact number of losses, and nothing stays held':
    OUTCOMES,
  'whose loop fails at a verdict continues with the next event, and the fail policy decides on the undecided one':
    OUTCOMES,
  'is kept alive by awaited results of a simulator whose device is closed, and by nothing else':
    OUTCOMES,
  'may abort a replay while its simulator closes': SIMULATOR,
  'that requests more memory than there is receives an error': SIMULATOR,
  'ends a forgotten simulator also while flows, loads and replays wait in it': SIMULATOR,
  'keeps a simulator while an outcome or a load is awaited, and closes it then': SIMULATOR,
  'closes a forgotten device, with a warning': OUTCOMES,
  'ends a simulator whose device is closed, and one whose second client is forgotten, with one warning':
    OUTCOMES,
  'may have many working devices': ONE_DEVICE,
  'may load the package both as ESM and as CommonJS': ONE_DEVICE,
  'may open, use and close devices': ONE_DEVICE,
};

export const notUnderWine: readonly NotUnderWine[] = [
  {
    file: 'connection_life.test.ts',
    test: 'the driver removes connections that ended over a minute ago',
    reason: MINUTES,
  },
  {
    file: 'connection_life.test.ts',
    test: 'the driver removes a UDP connection that was idle for ten minutes, but not one in use',
    reason: MINUTES,
  },
  {
    file: 'connection_life.test.ts',
    test: 'a TCP connection stays until its closure, however idle it is',
    reason: MINUTES,
  },
  ...[
    'that keeps its questions and goes on',
    'while nothing waits',
    'with stallTimeoutMs 0, although it hangs',
  ].map((test) => ({ file: 'stall.test.ts', test, reason: MINUTES })),
  {
    file: 'fragment_flood.test.ts',
    test: 'of 16384 each second is dropped, and disturbs no other connection',
    reason: 'so many packets take minutes under Wine',
  },
  ...[
    'a scan',
    'one socket to many',
    'many senders to one port',
    'echo requests',
    'everything at once',
  ].map((flood) => ({
    file: 'floods.test.ts',
    test: `${flood} over the limit of connections leaves those of others as they are`,
    reason: 'so many connections take minutes under Wine',
  })),
  {
    file: 'next_client.test.ts',
    test: 'a second client is refused while one is open, and does not disturb it',
    reason: 'Wine opens a device although its driver refuses; what is asked of it then fails',
  },
  {
    file: 'simulator.test.ts',
    test: 'refuses pipes, whose other end it would wait for',
    reason: 'Windows has no pipes among its files',
  },
  ...['abort', 'close'].map((how) => ({
    file: 'simulator.test.ts',
    test: `ends a replay on ${how} within 100 ms also among blocks that are no packets`,
    reason: SIMULATOR,
  })),
  {
    file: 'device.test.ts',
    test: 'resolves after five seconds with such a driver that is never quiet',
    reason: "Node.js's own fake timers cannot be refreshed",
  },
  {
    file: 'isolation.test.ts',
    test: 'opens no socket, pipe, file or shared memory that gives another process access',
    reason: SIMULATOR,
  },
  {
    file: 'open.test.ts',
    test: 'says what to do where there is no Windows backend',
    reason: NOT_WINDOWS,
  },
  ...['install', 'update', 'start', 'stop', 'remove', 'status'].map((action) => ({
    file: 'service.test.ts',
    test: `${action} is refused, and the error says what to do instead`,
    reason: NOT_WINDOWS,
  })),
  ...Object.entries(LIFECYCLE).map(([test, reason]) => ({
    file: 'lifecycle.test.ts',
    test,
    reason,
  })),
];

/** Folders whose tests never run under Wine. */
export const foldersNotUnderWine: Readonly<Record<string, string>> = {
  'test/cli':
    'replay and decode know no backend, and are compared with tshark; `driver` is run by the installed package',
};
