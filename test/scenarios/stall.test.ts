/** A program that hangs does not hang the computer. The time is real, and the limit short. */

import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Verdict,
  type ConnectionEvent,
  type Device,
  type Flow,
  type NetVerdictEvent,
  type Simulator,
  type SimulatorOptions,
} from '../../lib/index.js';
import { startComputer } from './computer.js';

const STALL_MS = 200;
const BYTES = new Uint8Array(10);

async function start(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = await startComputer({ stallTimeoutMs: STALL_MS, ...options });
  onTestFinished(() => simulator.close());
  return simulator;
}

function connect({ network }: Simulator, port: number): Flow {
  return network.connect({
    processId: port,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port },
  });
}

const stallsOf = async ({ device }: Simulator): Promise<bigint> =>
  (await device.getStatistics()).clientStalls;

/** The text of the next warning of a stall. */
async function nextWarning(): Promise<string> {
  for (;;) {
    const [warning] = (await once(process, 'warning')) as [Error & { readonly code?: string }];
    if (warning.code === 'NETVERDICT_CLIENT_STALLED') return warning.message;
  }
}

/** Accepts every connection, and returns the first event that is looked for. */
async function readOn(
  events: AsyncIterable<NetVerdictEvent>,
  isSought: (event: NetVerdictEvent) => boolean,
): Promise<NetVerdictEvent | undefined> {
  for await (const event of events) {
    if (isSought(event)) return event;
    if (event.type === 'connection') event.accept({ permanent: true });
  }
  return undefined;
}

const isQuestionOf =
  (port: number) =>
  (event: NetVerdictEvent): event is ConnectionEvent =>
    event.type === 'connection' && event.remotePort === port;

/** What the program does wrong. Each returns how it goes on. */
const mistakes: Record<
  string,
  { cause: RegExp; hang: (device: Device) => Promise<() => AsyncIterable<NetVerdictEvent>> }
> = {
  'awaits an answer in its loop': {
    cause: /nobody asks the iterator for the next event/,
    hang: async (device) => {
      const events = device.events();
      await events.next(); // and the loop's body does not end
      return () => events;
    },
  },
  'throws in its loop': {
    cause: /the loop over the events has ended/,
    hang: async (device) => {
      await expect(async () => {
        for await (const event of device) throw new Error(event.type);
      }).rejects.toThrow('connection');
      return () => device;
    },
  },
  'iterates nothing': {
    cause: /nothing iterates the events/,
    hang: (device) => Promise.resolve(() => device),
  },
  'iterates log lines alone': {
    cause: /nothing iterates the events/,
    hang: (device) => {
      void readOn(device.events({ types: ['log'] }), () => false);
      return Promise.resolve(() => device);
    },
  },
};

describe.each(Object.entries(mistakes))('a program that %s', (_name, { cause, hang }) => {
  test('lets other connections go on, is told the cause, and is asked again', async () => {
    const simulator = await start();
    const { device } = simulator;
    const stalls = await stallsOf(simulator);
    const first = connect(simulator, 1001);
    const goOn = await hang(device);
    const warning = nextWarning();
    const second = connect(simulator, 1002);
    expect(await first.outcome).toBe('permitted');
    expect(await second.outcome).toBe('permitted');
    expect(await warning).toMatch(cause);
    expect(await stallsOf(simulator)).toBeGreaterThan(stalls);

    const stalled = await readOn(goOn(), (event) => event.type === 'stalled');
    expect(stalled).toMatchObject({ type: 'stalled' });
    const asked = readOn(device, isQuestionOf(1002));
    void second.send(BYTES);
    expect(await asked).toMatchObject({ processId: 1002, remotePort: 1002 });
  });

  test('lets no connection in, failing closed', async () => {
    const simulator = await start({ failPolicy: 'closed' });
    const first = connect(simulator, 1001);
    await hang(simulator.device);
    expect(await first.outcome).not.toBe('permitted');
    expect(await connect(simulator, 1002).outcome).not.toBe('permitted');
  });
});

test('a program whose event loop is blocked is told so, and other connections went on', async () => {
  const simulator = await start();
  const { device } = simulator;
  const questions = device.events({ types: ['connection'] });
  const asked = questions.next();
  const flow = connect(simulator, 1001);
  await asked;
  void questions.next();
  const warning = nextWarning();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5 * STALL_MS);
  expect(await flow.outcome).toBe('permitted');
  expect(await warning).toMatch(/the event loop was blocked for \d+ ms/);
});

describe('a program is never stalled', () => {
  test('that keeps its questions and goes on', async () => {
    const simulator = await start({ clock: 'virtual', stallTimeoutMs: 5000 });
    const stalls = await stallsOf(simulator);
    const questions = simulator.device.events({ types: ['connection'] });
    connect(simulator, 1001);
    const { value: question } = await questions.next();
    void questions.next();
    simulator.clock.advance(600_000);
    expect(await stallsOf(simulator)).toBe(stalls);
    simulator.device.setVerdicts([[question!.id, Verdict.PermanentAccept]]);
    expect((await simulator.device.getStatistics()).packetsHeld).toBe(0n);
  });

  test('while nothing waits', async () => {
    const simulator = await start({ clock: 'virtual' });
    const stalls = await stallsOf(simulator);
    simulator.clock.advance(600_000);
    expect(await stallsOf(simulator)).toBe(stalls);
  });

  test('with stallTimeoutMs 0, although it hangs', async () => {
    const simulator = await start({ clock: 'virtual', stallTimeoutMs: 0 });
    const stalls = await stallsOf(simulator);
    connect(simulator, 1001);
    await simulator.device.events({ types: ['connection'] }).next();
    simulator.clock.advance(600_000);
    expect(await stallsOf(simulator)).toBe(stalls);
  });
});
