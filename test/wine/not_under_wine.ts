/** The tests that cannot run under Wine, each with the reason. */

export interface NotUnderWine {
  /** A file of test/scenarios or test/lifecycle. */
  readonly file: string;
  /** The test's title. */
  readonly test: string;
  readonly reason: string;
}

const MINUTES = 'it lets minutes pass, and time under Wine is real';
const ONE_DEVICE = 'it opens devices side by side, and the driver lets one program have one';
const OUTCOMES =
  'it waits for outcomes, and the read that brings them under Wine would keep the process';
const SIMULATOR = 'it is about the simulation within a process, which is in the kernel under Wine';

const LIFECYCLE: Readonly<Record<string, string>> = {
  'that aborts while a connection is held ends at once': 'Windows has no signal to abort by',
  'that handles its own failure closes the device, and what was held goes by the fail policy':
    OUTCOMES,
  'may fork, and both go on with devices of their own': ONE_DEVICE,
  'keeps no handle and no memory of them': OUTCOMES,
  'that stops reading for half a minute is told exactly how much was lost, and nothing stays held':
    OUTCOMES,
  'whose loop fails at a verdict goes on with the next event; the undecided one goes by the fail policy':
    OUTCOMES,
  'is kept by what it awaits of a simulator whose device is closed, and by nothing else of it':
    OUTCOMES,
  'may abort a replay while its simulator closes': SIMULATOR,
  'that asks for more memory than there is gets an error': SIMULATOR,
  'leaves a simulator alone that an outcome or a load is awaited from, and closes it then':
    SIMULATOR,
  'closes a forgotten device, with a warning': OUTCOMES,
  'ends a simulator whose device is closed, and one with a forgotten second client, with one warning':
    OUTCOMES,
  'may have many devices, each of which works': ONE_DEVICE,
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
    test: 'the driver removes a connection that was idle for ten minutes, but not one in use',
    reason: MINUTES,
  },
  {
    file: 'next_client.test.ts',
    test: 'a second client is refused while one is open, and does not disturb it',
    reason: 'Wine opens a device although its driver refuses; what is asked of it then fails',
  },
  {
    file: 'isolation.test.ts',
    test: 'opens no socket, pipe, file or shared memory that another process could come in by',
    reason: SIMULATOR,
  },
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
