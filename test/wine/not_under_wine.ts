/** The tests that Wine cannot show, each with the reason. */

export interface NotUnderWine {
  /** Of test/scenarios or test/lifecycle. */
  readonly file: string;
  /** The test's own title. */
  readonly test: string;
  readonly reason: string;
}

const MINUTES = 'it lets minutes pass, and time under Wine is real';
const ONE_DEVICE = 'it opens devices side by side, and the driver lets one program have one';
const OUTCOMES =
  'it waits for outcomes, and the read that brings them under Wine would keep the process';

const LIFECYCLE: Readonly<Record<string, string>> = {
  'that aborts while a connection is held ends at once': 'Windows has no signal to abort by',
  'that handles its own failure closes the device, and what was held goes by the fail policy':
    OUTCOMES,
  'may fork, and both go on with devices of their own': ONE_DEVICE,
  'may open and close a thousand devices, and keeps no handle or memory of them': OUTCOMES,
  'that reads nothing for half a minute is told how much was lost, and nothing stays held':
    OUTCOMES,
  'may have many devices, each of which works': ONE_DEVICE,
  'may load the package both as ESM and as CommonJS': ONE_DEVICE,
  'may open, use and close devices': ONE_DEVICE,
};

export const notUnderWine: readonly NotUnderWine[] = [
  {
    file: 'connection_life.test.ts',
    test: 'connections that ended over a minute ago are forgotten by the driver itself',
    reason: MINUTES,
  },
  {
    file: 'connection_life.test.ts',
    test: 'a connection that was idle for ten minutes is forgotten, one in use is not',
    reason: MINUTES,
  },
  ...Object.entries(LIFECYCLE).map(([test, reason]) => ({
    file: 'lifecycle.test.ts',
    test,
    reason,
  })),
];

/** Folders of tests that are not run under Wine at all. */
export const foldersNotUnderWine: Readonly<Record<string, string>> = {
  'test/cli':
    'replay and decode know no backend, and are compared with tshark; `driver` is run by the installed package',
};
