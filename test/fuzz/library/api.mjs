// Fuzzes the public API with random programs, over the addon that was built with the sanitizers.
// A program is a list of calls of all kinds in any order: traffic, reads, verdicts, commands, ends and beginnings.
// Another process runs the programs, so that a crash or a hang is a finding as any other, and can be made smaller.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { corpusOf } from './corpus.mjs';
import { sanitizedAddon } from '../../../scripts/testing/sanitized.mjs';

/** A program that has not ended by then hangs. */
const HANG_MS = 90_000;
const MOST_STEPS = 40;
const OUTPUT_KEPT = 8000;
const EVENT_TYPES = [
  'connection',
  'connection-end',
  'bandwidth',
  'log',
  'lost',
  'timeout',
  'stalled',
];

const oneOf = (...values) => fc.constantFrom(...values);
const index = fc.nat(40);
const optional = (fields) => fc.record(fields, { requiredKeys: [] });

const clientOptions = {
  failPolicy: oneOf('open', 'closed'),
  pendingTimeoutMs: oneOf(0, 5, 1000),
  maxQueuedBytes: oneOf(64 * 1024, 1024 * 1024),
  maxHeldPackets: oneOf(1, 4, 64),
  readBuffers: oneOf(1, 4),
  readBufferSize: oneOf(1024, 65_536),
  highWaterMark: oneOf(1, 4096),
  payloadLimit: oneOf(0, 64),
  logLevel: oneOf('trace', 'debug', 'warning'),
  loopback: oneOf('permit', 'ask'),
  stallTimeoutMs: oneOf(0, 10, 5000),
};
const options = optional({ ...clientOptions, clock: oneOf('virtual', 'real') });

const protocol = oneOf('tcp', 'udp', 'tcp', 'udp', 'icmp', 47);
const transport = oneOf('tcp', 'udp');
const link = oneOf(0, 0, 1, 2);
const ends = { v6: fc.boolean(), host: fc.nat(3), port: fc.nat(3), process: fc.nat(2) };
const payload = fc.nat(3);
const verdict = fc.integer({ min: 1, max: 11 });
const packet = fc
  .tuple(oneOf(0x45, 0x46, 0x60, 0x00), fc.uint8Array({ maxLength: 90 }))
  .map(([first, rest]) => [first, ...rest]);

/** Each call, with how often it comes and its arguments. */
const CALLS = {
  connect: [8, { ...ends, protocol, payload, loopback: oneOf(false, false, true), link }],
  accept: [4, { ...ends, protocol, payload, link }],
  listen: [1, { ...ends, protocol: transport }],
  send: [4, { flow: index, payload, back: fc.boolean() }],
  closeFlow: [2, { flow: index, listener: oneOf(false, false, true) }],
  packet: [2, { bytes: packet, way: oneOf('arrive', 'forward', 'outbound', 'inbound'), link }],
  load: [1, { connections: fc.integer({ min: 1, max: 30 }), protocol: transport }],
  disturb: [2, { what: oneOf('reauthorize', 'counters', 'poolBytes', 'wire', 'noWire') }],
  faults: [1, { oneIn: oneOf(0, 5, 50) }],
  advance: [2, { milliseconds: oneOf(0, 1, 10, 1000, 61_000, 700_000) }],
  read: [
    3,
    {
      types: fc.uniqueArray(oneOf(...EVENT_TYPES), { maxLength: 3 }),
      batches: fc.boolean(),
      signal: fc.boolean(),
    },
  ],
  watch: [1, { intervalMs: oneOf(1, 1000), signal: fc.boolean() }],
  abort: [2, { which: index, reason: fc.boolean() }],
  next: [8, { reader: index, calls: fc.integer({ min: 1, max: 5 }) }],
  leave: [1, { reader: index }],
  decide: [
    8,
    {
      question: index,
      verdict,
      way: oneOf('event', 'id', 'many'),
      count: fc.integer({ min: 1, max: 6 }),
    },
  ],
  decideUnknown: [1, { id: fc.nat(4), verdict }],
  update: [
    3,
    { which: index, verdict: fc.oneof(verdict, fc.constant('ask')), ended: fc.boolean() },
  ],
  ask: [3, { what: oneOf('getLogs', 'getBandwidth', 'getStatistics', 'connections') }],
  command: [2, { what: oneOf('clearCache', 'cleanEndedConnections', 'printMemoryStats') }],
  shutdown: [1, {}],
  refer: [1, { keeps: fc.boolean() }],
  close: [1, { waits: fc.boolean() }],
  open: [2, { options: optional(clientOptions), signal: fc.boolean(), waits: fc.boolean() }],
  restart: [1, { waits: fc.boolean() }],
  end: [1, {}],
  gc: [1, {}],
  turn: [6, { turns: fc.nat(3), milliseconds: oneOf(0, 0, 1, 3) }],
  misuse: [
    1,
    {
      what: oneOf(
        'setVerdict',
        'verdict',
        'setVerdicts',
        'updateVerdict',
        'events',
        'batches',
        'connect',
        'packet',
      ),
      value: oneOf(null, 0, -1, 'x', 1.5, true, [1]),
    },
  ],
};

const step = fc.oneof(
  ...Object.entries(CALLS).map(([name, [weight, fields]]) => ({
    weight,
    arbitrary: fc.record({ do: fc.constant(name), ...fields }),
  })),
);

const program = fc.record({
  options,
  steps: fc.array(step, { maxLength: MOST_STEPS, size: 'max' }),
  settles: fc.boolean(),
});

/** The process that runs the programs; another one after a crash or a hang. */
class Worker {
  #child;
  #output = '';

  /** Resolves to what went wrong, if anything did, and the number of verdicts that the device took. */
  run(given) {
    const child = (this.#child ??= this.#start());
    return new Promise((resolve) => {
      const end = (result) => {
        clearTimeout(timer);
        child.removeAllListeners('message').removeAllListeners('exit');
        resolve(result);
      };
      const timer = setTimeout(() => child.kill('SIGKILL'), HANG_MS);
      child.once('message', end);
      child.once('exit', (code, signal) => {
        this.#child = undefined;
        end({ problem: `The process ended with ${code ?? signal}.\n${this.#output}` });
      });
      child.send(given);
    });
  }

  stop() {
    this.#child?.kill('SIGKILL');
  }

  #start() {
    this.#output = '';
    const child = spawn(
      process.execPath,
      ['--expose-gc', '--no-warnings', join(import.meta.dirname, 'api_worker.mjs')],
      {
        env: { ...process.env, ...sanitizedAddon() },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      },
    );
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => (this.#output = (this.#output + data).slice(-OUTPUT_KEPT)));
    }
    return child;
  }
}

const worker = new Worker();
process.on('exit', () => worker.stop());

/** Runs one program, and throws what went wrong. Resolves to the number of verdicts that the device took. */
async function runProgram(given) {
  const { problem, verdicts } = await worker.run(given);
  if (problem !== undefined) throw new Error(problem);
  return verdicts;
}

const seeds = corpusOf('api').map((text) => JSON.parse(text));

/** More than a quarter of the programs read a question and decide on it. */
export const api = {
  examples: seeds.map((seed) => [seed]),
  leastAccepted: 0.1,
  runProgram,
  async checkSeeds() {
    let verdicts = 0;
    for (const seed of seeds) verdicts += await runProgram(seed);
    assert.ok(verdicts > 0);
  },
  property: (accepted) =>
    fc.asyncProperty(program, async (given) => {
      if ((await runProgram(given)) > 0) accepted();
    }),
};
