/** `netverdict replay`: replays a capture through the driver core, and decides by a policy. */

import { constants } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError as InvalidOptionError, Option, type Command } from 'commander';
import { BusyError, NetVerdictError } from '../base/errors.js';
import { parsePrefix } from '../codec/addresses.js';
import type { BandwidthEntry } from '../codec/events.js';
import type { Device } from '../device/device.js';
import { Policy } from '../policy/policy.js';
import { createSimulator } from '../simulator/simulator.js';
import { ExitCode, InputError, fileError, messageOf } from './failure.js';
import { complain } from './output.js';
import { ReplayReport } from './replay_report.js';

interface ReplayCommandOptions {
  readonly local: readonly string[];
  readonly policy?: string;
  readonly speed?: number;
  readonly fast?: true;
  readonly writeOut?: string;
  readonly json?: true;
  readonly payload?: true;
}

const ACCEPT_EVERYTHING = Policy.parse({ default: 'permanent-accept' });
const BANDWIDTH_INTERVAL_MS = 250;

/** The largest limits, so that a slow terminal loses no events. */
const QUEUE_LIMITS = { maxQueuedBytes: 256 * 1024 * 1024, maxHeldPackets: 1_048_576 };

/** Adds the command to the program. */
export function addReplayCommand(program: Command): void {
  program
    .command('replay')
    .description('replay a packet capture of one host, and decide on its connections by a policy')
    .argument('<file>', 'a pcap or pcapng file')
    .option(
      '--local <cidr>',
      'an address or network of the captured host; may be repeated (default: inferred from the capture)',
      collectNetwork,
      [],
    )
    .option('--policy <file>', 'the rules, as JSON (default: accept everything permanently)')
    .addOption(
      new Option('--speed <n>', 'replay at n times the captured speed')
        .argParser(parseSpeed)
        .conflicts('fast'),
    )
    .option('--fast', 'replay as fast as possible (the default)')
    .option(
      '--write-out <file>',
      'write the permitted packets to a pcapng file, on the interfaces network (sent to other computers), loopback (sent to this computer) and delivered (given to its programs)',
    )
    .option('--json', 'print one JSON object a line')
    .option('--payload', 'with --json: print the payload of connections too, as base64')
    .helpOption('--help', 'print this help')
    .action(async (file: string, options: ReplayCommandOptions, command: Command) => {
      if (options.payload && !options.json)
        command.error("error: option '--payload' needs '--json'");
      await replay(file, options);
    });
}

async function replay(file: string, options: ReplayCommandOptions): Promise<void> {
  const policy =
    options.policy === undefined ? ACCEPT_EVERYTHING : await readPolicy(options.policy);
  await checkReadable(file);
  const report = new ReplayReport(options.json === true, options.payload === true);
  const simulator = await createSimulator({
    ...QUEUE_LIMITS,
    ...(options.payload ? {} : { payloadLimit: 0 }),
    verifier: false,
  });
  const { device, network } = simulator;
  const interruption = new AbortController();
  const interrupt = (): void => {
    interruption.abort();
  };
  process.once('SIGINT', interrupt);
  try {
    const end = network
      .replay(file, {
        local: options.local,
        speed: options.speed ?? 0,
        ...(options.writeOut === undefined ? {} : { writeOut: options.writeOut }),
        signal: interruption.signal,
        onProgress: (progress) => {
          report.showProgress(progress);
        },
      })
      .then(
        (summary) => summary.warning,
        (error: unknown) => {
          if (interruption.signal.aborted) return '';
          throw error instanceof NetVerdictError ? error : new InputError(messageOf(error));
        },
      );
    await Promise.all([decide(device, policy, report), followBandwidth(device, end, report)]);
    const { permitted, blocked, dropped, held } = network.counters();
    await report.finish({ permitted, blocked: blocked + dropped, held });
    warn(await end);
  } finally {
    report.stop();
    process.removeListener('SIGINT', interrupt);
    await simulator.close();
  }
  if (interruption.signal.aborted) process.exitCode = ExitCode.Interrupted;
}

/** Warns of a truncated file, which was replayed up to its break. The exit code reports it to scripts. */
function warn(warning: string): void {
  if (warning === '') return;
  complain(warning);
  process.exitCode = ExitCode.BadInput;
}

/** Gives every connection its verdict until the driver has shut down. */
async function decide(device: Device, policy: Policy, report: ReplayReport): Promise<void> {
  for await (const events of device.batches()) {
    for (const event of events) {
      if (event.type === 'connection') {
        const verdict = policy.decide(event);
        device.setVerdict(event.id, verdict);
        report.addDecision(event, verdict);
      } else {
        report.addEvent(event);
      }
    }
    await report.flush();
  }
}

/** Reads bandwidth until the replay is over, because the driver counts a bounded number of connections; then ends it. */
async function followBandwidth(
  device: Device,
  end: Promise<unknown>,
  report: ReplayReport,
): Promise<void> {
  const isOver = end.then(
    () => true,
    () => true,
  );
  for (let over = false; !over;) {
    over = await Promise.race([isOver, sleep(BANDWIDTH_INTERVAL_MS, false, { ref: false })]);
    report.addBandwidth(await bandwidthOnceRead(device));
    await report.flush();
  }
  await end;
  device.shutdown();
}

/** @internal Reads bandwidth. Retries while too many events come before the answer, as with a slow reader of the output. */
export async function bandwidthOnceRead(device: Device): Promise<readonly BandwidthEntry[]> {
  for (;;) {
    try {
      return await device.getBandwidth();
    } catch (error) {
      if (!(error instanceof BusyError)) throw error;
      await sleep(BANDWIDTH_INTERVAL_MS);
    }
  }
}

async function readPolicy(path: string): Promise<Policy> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw fileError(path, cause);
  });
  try {
    return Policy.parse(text);
  } catch (cause) {
    throw new InputError(`${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Checks the path before anything starts. */
async function checkReadable(file: string): Promise<void> {
  try {
    await access(file, constants.R_OK);
    if ((await stat(file)).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
  } catch (cause) {
    throw fileError(file, cause);
  }
}

function collectNetwork(text: string, networks: readonly string[]): readonly string[] {
  try {
    parsePrefix(text);
  } catch (error) {
    throw new InvalidOptionError(messageOf(error));
  }
  return [...networks, text];
}

function parseSpeed(text: string): number {
  const speed = Number(text);
  if (text.trim() === '' || !Number.isFinite(speed) || speed <= 0) {
    throw new InvalidOptionError(
      "It must be a number above 0, such as 1 or 0.5; or give '--fast'.",
    );
  }
  return speed;
}
