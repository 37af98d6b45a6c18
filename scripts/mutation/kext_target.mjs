// Tries mutations of the driver out: it compiles what the changed file is part of, links the driver's unit tests with
// it, and runs them, those nearest to the file first. It uses the build with the sanitizers, which `npm test` needs too.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { root, run } from '../testing/run.mjs';
import { provideTools } from '../testing/tools.mjs';
import { mutationsOfC } from './c_mutations.mjs';
import { mutated, sourceOf } from './mutation.mjs';

const BUILD = join(root, 'build', 'asan');
const KEXT = join(root, 'kext');
const UNIT_TESTS = join(root, 'test', 'unit', 'kext');
const OBJECTS = join(BUILD, 'kext', 'CMakeFiles', 'kext.dir');
const PROGRAM = 'test/unit/kext_tests';
const LIBRARY = 'libkext.so';
/** A suite that takes longer than this runs after all others. */
const SLOW_SUITE_SECONDS = 0.5;
/** A mutation hangs that takes so many times as long as the driver itself, and some more. */
const PATIENCE = 5;
const LEAST_SECONDS = 10;
/** For all tests, without any mutation. */
const MOST_SECONDS = 1800;
const ASAN_OPTIONS = 'hard_rss_limit_mb=4096';
/** Without them equal code gives equal objects. */
const PLAIN = '-O2 -g0 -fno-sanitize=all';
const MISTAKES = ['incompatible-pointer-types', 'int-conversion', 'discarded-qualifiers'];

const listed = (folder, ending) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .sort();

async function succeed(command, args, environment) {
  const { ok, output } = await run(command, args, environment);
  if (!ok) throw new Error(output);
  return output.slice(output.indexOf('\n') + 1);
}

/** file → the sources of the driver that are it or include it, directly or not */
function dependents() {
  const included = new Map(
    listed(KEXT, '.h')
      .concat(listed(KEXT, '.c'))
      .map((name) => [
        name,
        Array.from(
          readFileSync(join(KEXT, name), 'utf8').matchAll(/^#include "(\w+\.h)"/gm),
          ([, header]) => header,
        ),
      ]),
  );
  const reaches = (name, wanted) =>
    name === wanted || (included.get(name) ?? []).some((header) => reaches(header, wanted));
  return (wanted) => listed(KEXT, '.c').filter((name) => reaches(name, wanted));
}

/** The suites of each test file that is about a file of the driver: by its name, or because it includes the header. */
function nearestSuites(file) {
  const concept = basename(file).replace(/\.[ch]$/, '');
  return listed(UNIT_TESTS, '_test.cc')
    .map((name) => ({ name, text: readFileSync(join(UNIT_TESTS, name), 'utf8') }))
    .filter(
      ({ name, text }) =>
        name === `${concept}_test.cc` || text.includes(`#include "kext/${concept}.h"`),
    )
    .flatMap(({ text }) =>
      Array.from(text.matchAll(/^TEST(?:_F|_P)?\((\w+),/gm), ([, suite]) => suite),
    );
}

export class KextTarget {
  name = 'kext';
  #dependents = dependents();
  #compilers;
  #program;
  #suites;
  #originals = new Map();
  #seen = new Set();

  /** @returns {import('./mutation.mjs').Mutation[]} */
  mutations() {
    return listed(KEXT, '.c')
      .concat(listed(KEXT, '.h'))
      .map((name) => `kext/${name}`)
      .flatMap((file) => [...mutationsOfC(file, sourceOf(file))]);
  }

  /** Builds the tests of the driver as it is, and measures them. */
  async prepare(folder, jobs) {
    if (provideTools(new Set(['g++', 'cmake', 'ninja', 'gtest', 'gmock'])).size > 0)
      throw new Error('These programs are needed.');
    await succeed('cmake', ['--preset', 'asan']);
    const build = ['--build', '--preset', 'asan', '--target', 'kext_tests', '--parallel', jobs];
    await succeed('cmake', build.map(String));
    const commands = JSON.parse(await succeed('ninja', ['-C', BUILD, '--quiet', '-t', 'compdb']));
    this.#compilers = new Map(
      commands
        .filter(({ file }) => file.startsWith(`${KEXT}/`) && file.endsWith('.c'))
        .map(({ file, command }) => [basename(file), command.replace(/ -MD -MT \S+ -MF \S+/, '')]),
    );
    await this.#linkTests(folder);
    this.#suites = await this.#measure(folder);
  }

  /** Links the tests with the driver as a shared library, which takes no time to make again. */
  async #linkTests(folder) {
    const commands = await succeed('ninja', [
      '-C',
      BUILD,
      '--quiet',
      '-t',
      'commands',
      '-s',
      PROGRAM,
    ]);
    const link = /&& (.* -o test\/unit\/kext_tests .*) && :/.exec(commands)[1];
    const library = await this.#linkDriver([], folder);
    this.#program = join(folder, 'kext_tests');
    const shared = link
      .replace(' -o test/unit/kext_tests ', ` -rdynamic -o ${this.#program} `)
      .replace(' kext/libkext.a ', ` ${library} `)
      .replace(' sim/libsim.a ', ' -Wl,--whole-archive sim/libsim.a -Wl,--no-whole-archive ');
    await succeed('sh', ['-c', `cd ${BUILD} && ${shared}`]);
  }

  /** Links the driver from these objects, and from its own for all other sources. */
  async #linkDriver(objects, folder) {
    const changed = new Set(objects.map((object) => basename(object)));
    const others = listed(KEXT, '.c')
      .map((name) => `${name}.o`)
      .filter((name) => !changed.has(name));
    const library = join(folder, LIBRARY);
    await succeed('c++', [
      ...['-shared', '-fsanitize=address,undefined', `-Wl,-soname,${LIBRARY}`, '-o', library],
      ...[...objects, ...others.map((name) => join(OBJECTS, name))],
    ]);
    return library;
  }

  /** A place in which one mutation at a time is tried out. */
  openLane(folder) {
    mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(KEXT).filter((each) => /\.[ch]$/.test(each))) {
      copyFileSync(join(KEXT, name), join(folder, name));
    }
    return folder;
  }

  /** @returns {Promise<'killed' | 'survived' | 'not compiled' | 'no change'>} */
  async tryOut(mutation, lane) {
    const name = basename(mutation.file);
    const sources = this.#dependents(name);
    const before = await this.#originalCode(name, sources, lane);
    const source = sourceOf(mutation.file);
    writeFileSync(join(lane, name), mutated(source, mutation));
    try {
      const code = await this.#codeOf(sources, lane);
      if (code === undefined) return 'not compiled';
      if (code === before || this.#seen.has(code)) return 'no change';
      this.#seen.add(code);
      return await this.#test(name, await this.#compile(sources, lane, ''), lane);
    } finally {
      writeFileSync(join(lane, name), source);
    }
  }

  async #originalCode(name, sources, lane) {
    if (!this.#originals.has(name)) {
      this.#originals.set(name, await this.#codeOf(sources, lane));
    }
    return this.#originals.get(name);
  }

  /** What tells whether two versions of sources are the same program; undefined if one does not compile. */
  async #codeOf(sources, lane) {
    const objects = await this.#compile(sources, lane, PLAIN);
    if (objects === undefined) return undefined;
    const hash = createHash('sha256');
    for (const object of objects) hash.update(readFileSync(object));
    return hash.digest('hex');
  }

  async #compile(sources, lane, flags) {
    const objects = [];
    for (const name of sources) {
      const object = join(lane, `${name}.o`);
      const command = this.#compilers
        .get(name)
        .replace(/ -o \S+/, ` -o ${object}`)
        .replace(/ -c \S+$/, ` -c ${join(lane, name)}`)
        .replace(' -Werror ', ' ');
      const errors = MISTAKES.map((mistake) => `-Werror=${mistake}`).join(' ');
      // The log names its files: their paths must be the same.
      const prefix = `-fmacro-prefix-map=${lane}/=${KEXT}/`;
      const { ok } = await run('sh', [
        '-c',
        `cd ${BUILD} && ${command} ${errors} ${prefix} ${flags}`,
      ]);
      if (!ok) return undefined;
      objects.push(object);
    }
    return objects;
  }

  async #test(name, objects, lane) {
    await this.#linkDriver(objects, lane);
    const nearest = new Set(nearestSuites(name));
    for (const suites of this.#stages(nearest)) {
      if (suites.length === 0) continue;
      const usual = suites.reduce((sum, { seconds }) => sum + seconds, 0);
      const filter = suites.map((suite) => `${suite.name}.*`).join(':');
      const { ok } = await this.#runTests(lane, LEAST_SECONDS + PATIENCE * usual, [
        '--gtest_fail_fast',
        `--gtest_filter=${filter}`,
      ]);
      if (!ok) return 'killed';
    }
    return 'survived';
  }

  /** The nearest suites, then the fast ones, then the slow ones. */
  #stages(nearest) {
    const isNear = ({ name }) =>
      nearest.has(name.split('/').at(-1)) || nearest.has(name.split('/')[0]);
    const isSlow = ({ seconds }) => seconds > SLOW_SUITE_SECONDS;
    const others = this.#suites.filter((suite) => !isNear(suite));
    return [
      this.#suites.filter((suite) => isNear(suite) && !isSlow(suite)),
      others.filter((suite) => !isSlow(suite)),
      this.#suites.filter((suite) => isNear(suite) && isSlow(suite)),
      others.filter(isSlow),
    ];
  }

  /** Runs the tests with the driver in `folder`. After these seconds the whole process group ends. */
  #runTests(folder, seconds, args) {
    return run(
      'timeout',
      ['--signal=KILL', String(Math.ceil(seconds)), this.#program, '--gtest_brief=1', ...args],
      { ASAN_OPTIONS, LD_LIBRARY_PATH: folder },
    );
  }

  /** Each suite of the unit tests, with its time. */
  async #measure(folder) {
    const report = join(folder, 'suites.json');
    const { ok, output } = await this.#runTests(folder, MOST_SECONDS, [
      `--gtest_output=json:${report}`,
    ]);
    if (!ok) throw new Error(`The tests fail without any mutation.\n${output}`);
    return JSON.parse(readFileSync(report, 'utf8')).testsuites.map(({ name, time }) => ({
      name,
      seconds: Number.parseFloat(time),
    }));
  }
}
