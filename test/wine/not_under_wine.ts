/** The tests of test/scenarios that Wine cannot show, each with the reason. */

export interface NotUnderWine {
  /** Of test/scenarios. */
  readonly file: string;
  /** The test's own title. */
  readonly test: string;
  readonly reason: string;
}

const VIRTUAL_CLOCK = 'it lets time pass, and time under Wine is real';

export const notUnderWine: readonly NotUnderWine[] = [
  {
    file: 'connection_life.test.ts',
    test: 'connections that ended over a minute ago are forgotten by the driver itself',
    reason: VIRTUAL_CLOCK,
  },
  {
    file: 'connection_life.test.ts',
    test: 'a connection that was idle for ten minutes is forgotten, one in use is not',
    reason: VIRTUAL_CLOCK,
  },
  {
    file: 'fragments.test.ts',
    test: 'without its first fragment is dropped and counted after a second',
    reason: VIRTUAL_CLOCK,
  },
  {
    file: 'undecided.test.ts',
    test: 'the pending time over, the timeout verdict is applied and told',
    reason: VIRTUAL_CLOCK,
  },
  {
    file: 'undecided.test.ts',
    test: "without a timeout the computer's own connect time runs out",
    reason: VIRTUAL_CLOCK,
  },
];
