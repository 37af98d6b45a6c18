// Tests the driver's binary under Wine, in a new prefix with netverdict.sys over the simulation.
// It runs a plain client of the base protocol, the tests of the simulation, and the scenarios.
// The results of the scenarios are compared with those of the host.
// It needs a build of the CMake preset sim-wine, and `npm run prebuild -- win32-x64`.
// A line that begins with `! ` needs attention even if all tests pass.
// The last line is `N passed, N failed, N skipped`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WinePrefix, windowsPath } from './prefix.mjs';
import { buildWindowsApp, installPackage, provideNode } from './windows_app.mjs';

const NODE_VERSION = '22.23.3';
const OLDER_NODE_VERSION = '20.20.2';
const PLAIN_SERVICE = 'PlainKext';
const SERVICE = 'NetVerdict';
const BLOCKED_SERVICE = 'BlockedKext';
const DRIVER = 'C:\\windows\\system32\\drivers\\netverdict.sys';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const built = join(root, 'build/sim-wine');
const prebuilt = join(root, 'prebuilds/win32-x64');
const work = join(root, 'build/wine');
const app = join(work, 'app');
const comparison = join(work, 'comparison.txt');
const total = { passed: 0, failed: 0, skipped: 0 };
/** Files of library, scenarios or lifecycle tests that are named as arguments: only they run. */
const chosen = process.argv.slice(2).map((file) => file.replace(/\.ts$/, '.js'));
const isWhole = chosen.length === 0;

async function stage(name, action) {
  const start = performance.now();
  const note = await action();
  console.log(
    `${name} (${((performance.now() - start) / 1000).toFixed(1)} s)${note ? `: ${note}` : ''}`,
  );
}

/** A stage that is left out where files are named. */
const stageOfAll = (name, action) => (isWhole ? stage(name, action) : undefined);

function summary(results) {
  const of = (state) => results.filter((result) => result.state === state).length;
  return `${of('passed')} passed, ${of('failed')} failed, ${of('skipped')} skipped`;
}

function check(name, holds, detail = '') {
  total[holds ? 'passed' : 'failed'] += 1;
  if (!holds) console.log(`✗ ${name}\n${detail}`);
}

/** Counts a program's results. A program that has none, or that fails although none of them did, is a failure. */
function count(name, results, { code, output }) {
  for (const { state } of results) total[state] += 1;
  const hasFailed = results.some(({ state }) => state === 'failed');
  if (hasFailed || (code === 0 && results.length > 0)) return;
  check(name, false, `exit code ${code}, ${results.length} results\n${output}`);
}

/** Returns the results in the output of a program that prints TAP. */
function resultsInTap(output) {
  return output
    .split(/\r?\n/)
    .flatMap((line) =>
      /^(not )?ok \d/.test(line) ? [{ state: line.startsWith('ok') ? 'passed' : 'failed' }] : [],
    );
}

async function startService(prefix, name, baseReadsPend = true) {
  await prefix.run('sc', ['create', name, 'type=', 'kernel', 'binPath=', DRIVER]);
  if (baseReadsPend) await prefix.letBaseReadsPend(name);
  await prefix.run('sc', ['start', name]);
  const { output } = await prefix.run('sc', ['query', name]);
  check(`${name} starts`, output.includes('RUNNING'), output);
}

async function stopService(prefix, name) {
  await prefix.run('sc', ['stop', name]);
  const { output } = await prefix.run('sc', ['query', name]);
  check(`${name} stops`, output.includes('STOPPED'), output);
  await prefix.run('sc', ['delete', name]);
}

/** Runs a program that prints TAP. */
async function runProgram(prefix, name, args) {
  const ran = await prefix.run(join(built, 'test/wine', `${name}.exe`), args);
  const results = resultsInTap(ran.output);
  count(name, results, ran);
  if (ran.code !== 0) console.log(ran.output);
  return summary(results);
}

function testFiles(folder) {
  return readdirSync(join(app, folder))
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => `${folder}/${name}`);
}

/** Runs test files in the Windows Node.js and returns their results. */
async function runTests(prefix, node, files, limitMs) {
  const report = prefix.folder('report.json');
  rmSync(report, { force: true });
  const paths = files.map((file) => windowsPath(join(app, file)));
  const ran = await prefix.run(
    node,
    [windowsPath(join(app, 'test/wine/harness/run_tests.mjs')), 'C:\\report.json', ...paths],
    limitMs,
  );
  const results = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : [];
  count(`the run of ${files.join(', ')}`, results, ran);
  for (const { name, file, state, error } of results) {
    if (state === 'failed') console.log(`✗ ${file} > ${name}\n${error}`);
  }
  return results;
}

/** Tests the packed package, installed in an application's folder, through its public interface. */
async function testInstalled(prefix, node) {
  installPackage(prefix.folder('app'));
  copyFileSync(join(built, 'test/wine/file_owner.node'), prefix.folder('file_owner.node'));
  const ran = await prefix.run(
    node,
    ['--test-reporter=tap', 'C:\\app\\package.test.mjs'],
    300_000,
    {
      NETVERDICT_REMOTE_NETWORK: `file:///Z:${join(app, 'test/wine/remote_network.js')}`,
      NODE_OPTIONS: '--require C:/file_owner.node',
    },
  );
  const results = resultsInTap(ran.output);
  count('the installed package', results, ran);
  if (ran.code !== 0) console.log(ran.output);
  return summary(results);
}

/**
 * Runs a client whose read waits in the driver. That blocks every request to a driver under Wine, also the cancel and
 * the Shutdown command, so the client leaves the read behind. No service answers afterwards.
 */
async function leaveReadBehind(prefix, node) {
  await startService(prefix, BLOCKED_SERVICE, false);
  const program = windowsPath(join(app, 'test/wine/harness/kept_read.mjs'));
  const device = `\\\\.\\${BLOCKED_SERVICE}`;
  const { code, output } = await prefix.run(node, [program, device], 20_000);
  const holds = code === 0 && output === 'closed within a second\n';
  check('a client leaves a read behind that nothing ends', holds, `exit code ${code}\n${output}`);
}

/** Runs the same tests in this computer's simulator at the same time: returns name → state. */
async function runOnHost() {
  const path = join(work, 'host.json');
  rmSync(path, { force: true });
  const child = spawn(
    process.execPath,
    [
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--project=netverdict',
      'test/scenarios',
      '--reporter=json',
      `--outputFile=${path}`,
    ],
    { cwd: root, stdio: 'ignore' },
  );
  await once(child, 'exit');
  const states = new Map();
  for (const { name: file, assertionResults } of JSON.parse(readFileSync(path, 'utf8'))
    .testResults) {
    for (const { ancestorTitles, title, status } of assertionResults) {
      const name = [file.replace(/^.*\//, ''), ...ancestorTitles.filter(Boolean), title].join(
        ' > ',
      );
      states.set(name, status);
    }
  }
  return states;
}

function table(rows) {
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join(' | '))
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Prints all results side by side, and their differences. */
async function compare(hostRun, results) {
  const host = await hostRun;
  const wine = new Map(results.map(({ file, name, state }) => [`${file} > ${name}`, state]));
  const rows = [['test', 'host', 'Wine']];
  let same = 0;
  for (const name of new Set([...host.keys(), ...wine.keys()])) {
    const [there, here] = [host.get(name) ?? 'absent', wine.get(name) ?? 'absent'];
    rows.push([name, there, here]);
    if (there === here) same += 1;
    else if (here !== 'skipped' || reasonToSkip(name) === undefined)
      check(`the same on the host and under Wine: ${name}`, false, `host ${there}, Wine ${here}`);
  }
  writeFileSync(comparison, `${table(rows)}\n`);
  console.log(
    `! ${same} of ${host.size} scenarios have the same result on the host and under Wine, side by side in ${relative(root, comparison)}`,
  );
}

function reasonToSkip(name) {
  return exceptions.notUnderWine.find(
    ({ file, test }) => name.startsWith(`${file} > `) && name.endsWith(` > ${test}`),
  )?.reason;
}

/** Prints the tests that were left out, with the reason. Each of them has a reason, and each reason a test. */
function printSkipped(results) {
  const skipped = results.filter(({ state }) => state === 'skipped');
  for (const { file, name } of skipped) {
    const full = `${file} > ${name}`;
    const reason = reasonToSkip(full);
    check(`left out with a reason: ${full}`, reason !== undefined);
    console.log(`! not under Wine: ${full}: ${reason}`);
  }
  for (const { file, test } of exceptions.notUnderWine) {
    const isLeftOut = skipped.some(
      (left) => left.file === file && ` > ${left.name}`.endsWith(` > ${test}`),
    );
    check(`left out as listed: ${file} > ${test}`, isLeftOut);
  }
}

const prefix = new WinePrefix(join(work, 'prefix'));
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    prefix.end();
    process.exit(128 + constants.signals[signal]);
  });
}
let exceptions;
try {
  let hasAddon = false;
  let node = '';
  await stage('Wine prefix', () => prefix.create());
  await stage('Drivers', () => {
    prefix.copyDriver(join(prebuilt, 'netverdict.sys'), 'netverdict.sys');
    for (const name of ['fwpkclnt.sys', 'ndis.sys', 'netio.sys'])
      prefix.copyDriver(join(built, 'sim/wine', name), name);
    prefix.keepAlive(join(built, 'test/wine/keep_alive.exe'));
  });
  await stageOfAll("The addon's service control", () =>
    runProgram(prefix, 'service_test', [DRIVER]),
  );
  await stageOfAll('Service by another name', () => startService(prefix, PLAIN_SERVICE));
  await stageOfAll('Base protocol client', () =>
    runProgram(prefix, 'base_client', [PLAIN_SERVICE]),
  );
  await stageOfAll('Service stops', () => stopService(prefix, PLAIN_SERVICE));
  await stage('Windows Node.js and the tests for it', async () => {
    node = provideNode(NODE_VERSION, join(work, `node-${NODE_VERSION}`));
    hasAddon = buildWindowsApp(app);
    exceptions = await import(join(app, 'test/wine/not_under_wine.js'));
  });
  if (hasAddon && isWhole) {
    for (const version of [OLDER_NODE_VERSION, NODE_VERSION]) {
      const program = provideNode(version, join(work, `node-${version}`));
      await stage(`Installed package, Node.js ${version}`, () => testInstalled(prefix, program));
    }
  }
  await stage('Service', () => startService(prefix, SERVICE));
  await stageOfAll('Simulation by itself', async () =>
    summary(await runTests(prefix, node, ['test/wine/remote_network.test.js'], 60_000)),
  );
  if (hasAddon && !isWhole) {
    await stage('Named files', async () => summary(await runTests(prefix, node, chosen, 300_000)));
  } else if (hasAddon) {
    const library = ['test/lib', 'test/protocol'].flatMap(testFiles);
    let libraryResults = [];
    await stage('Library', async () => {
      libraryResults = await runTests(prefix, node, library, 120_000);
      return summary(libraryResults);
    });
    let lifecycle = [];
    await stage('Ends of processes', async () => {
      lifecycle = await runTests(prefix, node, testFiles('test/lifecycle'), 300_000);
      return summary(lifecycle);
    });
    const hostRun = runOnHost();
    let results = [];
    await stage('Scenarios', async () => {
      results = await runTests(prefix, node, testFiles('test/scenarios'), 300_000);
      return summary(results);
    });
    await stage('Compared with the host', () => compare(hostRun, results));
    printSkipped([...libraryResults, ...lifecycle, ...results]);
    for (const [folder, reason] of Object.entries(exceptions.foldersNotUnderWine)) {
      console.log(`! not under Wine: ${folder}: ${reason}`);
    }
  } else {
    check('the addon for Windows is built', false, 'Run: npm run prebuild -- win32-x64');
  }
  await stage('Service stops', () => stopService(prefix, SERVICE));
  if (hasAddon) await stageOfAll('A read that nothing ends', () => leaveReadBehind(prefix, node));
} finally {
  await stage('Wine ends', () => prefix.end());
}
check('no process is left behind', prefix.processes().length === 0, prefix.processes().join('\n'));
const log = prefix.folder('netverdict-simulation.log');
if (existsSync(log) && readFileSync(log).length > 0) {
  check('the simulation found no broken rule', false, readFileSync(log, 'utf8'));
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
