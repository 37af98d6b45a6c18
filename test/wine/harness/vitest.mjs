// The module that tests import as 'vitest' under Wine: vitest's runner and assertions.
// It lacks vitest's server and transformer, whose native parts are not built for Windows here.
import { mock } from 'node:test';
import * as chai from 'chai';
import * as spy from '@vitest/spy';
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
} from '@vitest/expect';

export {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  it,
  onTestFinished,
  suite,
  test,
} from '@vitest/runner';

const POLL_LIMIT_MS = 5000;
const POLL_INTERVAL_MS = 20;

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

export const expect = Object.assign(
  (value, message) => chai.expect(value, message),
  chai.expect,
  globalThis[ASYMMETRIC_MATCHERS_OBJECT],
  { poll },
);

export const vi = { ...spy, useFakeTimers, advanceTimersByTime, useRealTimers };

function useFakeTimers() {
  mock.timers.enable({ apis: ['setTimeout'] });
}

function advanceTimersByTime(ms) {
  mock.timers.tick(ms);
}

function useRealTimers() {
  mock.timers.reset();
}

/** Repeats the assertion until it holds or the time is up. */
function poll(read) {
  const matchers = new Proxy(
    {},
    {
      get:
        (_target, matcher) =>
        async (...expected) => {
          const end = performance.now() + POLL_LIMIT_MS;
          for (;;) {
            try {
              return expect(await read())[matcher](...expected);
            } catch (error) {
              if (performance.now() > end) throw error;
              await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
            }
          }
        },
    },
  );
  return matchers;
}
