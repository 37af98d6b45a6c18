/** `netverdict driver`: controls the driver's service on this computer. */

import type { Command } from 'commander';
import { printable, printableJson } from '../base/text.js';
import { service } from '../service/service.js';
import type { ServiceStartType, ServiceStatus, UpdateResult } from '../service/service_status.js';
import { InputError } from './failure.js';
import { write } from './output.js';

interface NameOptions {
  readonly name?: string;
}

interface WaitOptions extends NameOptions {
  readonly timeout?: number;
}

interface InstallOptions extends NameOptions {
  readonly path?: string;
  readonly startType?: string;
}

interface StatusOptions extends NameOptions {
  readonly json?: true;
}

/** Adds the commands to the program. */
export function addDriverCommand(program: Command): void {
  const driver = program
    .command('driver')
    .description("install, start, stop and remove the driver's service (Windows, as administrator)")
    .helpOption('--help', 'print this help')
    .helpCommand(false);

  addAction(driver, 'install', 'register the driver without starting it')
    .option('--path <file>', 'the driver; by default the one in this package')
    .option('--start-type <when>', "'demand' (the default), 'system' or 'auto'")
    .action(install);
  addWaitingAction(driver, 'update', 'replace the driver by a newer one')
    .option('--path <file>', 'the driver; by default the one in this package')
    .action(update);
  addWaitingAction(driver, 'start', 'load the driver, and wait until it runs').action(
    async (options: WaitOptions) => {
      await service.start(waitOptions(options));
      await printStatus(options);
    },
  );
  addWaitingAction(driver, 'stop', 'unload the driver, and wait until it is unloaded').action(
    async (options: WaitOptions) => {
      await service.stop(waitOptions(options));
      await printStatus(options);
    },
  );
  addWaitingAction(driver, 'remove', 'stop the driver if it runs, and remove it').action(
    async (options: WaitOptions) => {
      await service.remove(waitOptions(options));
      await printStatus(options);
    },
  );
  addAction(driver, 'status', 'print the status of the service; needs no administrator')
    .option('--json', 'print one JSON object')
    .action(printStatus);
}

function addAction(driver: Command, name: string, description: string): Command {
  return driver
    .command(name)
    .description(description)
    .option('--name <service>', "the service; 'NetVerdict' by default")
    .helpOption('--help', 'print this help');
}

function addWaitingAction(driver: Command, name: string, description: string): Command {
  return addAction(driver, name, description).option(
    '--timeout <seconds>',
    'how long to wait; 30 by default',
    parseSeconds,
  );
}

interface UpdateOptions extends WaitOptions {
  readonly path?: string;
}

const UPDATE_RESULTS: Readonly<Record<UpdateResult, string>> = {
  updated: 'updated',
  unchanged: 'has this version already',
  'newer-kept': 'has a newer version, which stays',
};

async function update({ path, ...options }: UpdateOptions): Promise<void> {
  const result = await service.update({
    ...waitOptions(options),
    ...(path === undefined ? {} : { sysPath: path }),
  });
  await write(`The service ${UPDATE_RESULTS[result]}.\n`);
  await printStatus(options);
}

async function install({ path, startType, ...options }: InstallOptions): Promise<void> {
  const installed = await service.install({
    ...options,
    ...(path === undefined ? {} : { sysPath: path }),
    ...(startType === undefined ? {} : { startType: parseStartType(startType) }),
  });
  await write(`Copied to ${printable(installed.path)}, which only administrators may write.\n`);
  await printStatus(options);
}

async function printStatus({ json, name }: StatusOptions): Promise<void> {
  const status = await service.status(name === undefined ? {} : { name });
  await write(json === true ? `${printableJson(status)}\n` : statusLine(status));
}

function statusLine({ name, state, path }: ServiceStatus): string {
  return `${printable(`${name}: ${state}${path === undefined ? '' : `, ${path}`}`)}\n`;
}

function waitOptions({ timeout, name }: WaitOptions): { timeoutMs?: number; name?: string } {
  return {
    ...(name === undefined ? {} : { name }),
    ...(timeout === undefined ? {} : { timeoutMs: Math.ceil(timeout * 1000) }),
  };
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400)) {
    throw new InputError(
      `--timeout ${text}: this is not a valid number of seconds. Give one above 0, at most 86400.`,
    );
  }
  return seconds;
}

function parseStartType(text: string): ServiceStartType {
  if (text === 'demand' || text === 'system' || text === 'auto') return text;
  throw new InputError(`--start-type ${text}: use 'demand', 'system' or 'auto'.`);
}
