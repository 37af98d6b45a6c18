#!/usr/bin/env node
/** The `netverdict` command line. */

import { Command, CommanderError } from 'commander';
import { printable } from '../base/text.js';
import { addDecodeCommand } from './decode.js';
import { addDriverCommand } from './driver.js';
import { ExitCode, exitCodeOf, messageOf } from './failure.js';
import { complain, endQuietlyOnBrokenPipe } from './output.js';
import { packageVersion } from './package_version.js';
import { addReplayCommand } from './replay.js';

function createProgram(): Command {
  const program = new Command('netverdict')
    .description(
      'Decides on network connections, with the driver core running in this process; installs the driver on Windows.',
    )
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('--help', 'print this help')
    .helpCommand(false)
    .showHelpAfterError("Run 'netverdict --help' for the commands and options.")
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => {
        write(`${printable(text.replace(/^error: /, 'netverdict: ').trimEnd())}\n`);
      },
    });
  addReplayCommand(program);
  addDecodeCommand(program);
  addDriverCommand(program);
  return program;
}

async function main(): Promise<void> {
  endQuietlyOnBrokenPipe();
  try {
    await createProgram().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? ExitCode.Ok : ExitCode.BadInput;
      return;
    }
    complain(messageOf(error));
    process.exitCode = exitCodeOf(error);
  }
}

void main();
