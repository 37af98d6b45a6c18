// Tries mutations of the library out in a copy of what its tests need: sources, tests, and the compiled library.
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import ts from 'typescript';
import { root, run } from '../testing/run.mjs';
import { mutationsOfTypeScript } from './ts_mutations.mjs';
import { mutated, sourceOf } from './mutation.mjs';

/** What tests change or run is copied, and the rest is linked to. */
const COPIED = ['lib', 'dist', 'package.json', 'tsconfig.json', 'vitest.config.ts'];
const COPIED_TESTS = ['cli', 'lib', 'lifecycle', 'protocol', 'scenarios', 'support'];
const LINKED = ['node_modules', 'captures', 'examples', 'addon', 'kext'];
/** Tests of the compiled library, which take longest. */
const COMPILED_TESTS = ['test/cli', 'test/lifecycle'];
/** A promise that does not settle is waited for so long. */
const TEST_TIMEOUT_MS = 10_000;
const LEAST_SECONDS = 20;
const PATIENCE = 5;

/** The compiler, kept between mutations: each changes one file. */
class Compiler {
  #changed = new Map();
  #version = 0;
  #service;

  constructor() {
    const { options, fileNames } = ts.getParsedCommandLineOfConfigFile(
      join(root, 'tsconfig.json'),
      { noUnusedLocals: false, noUnusedParameters: false, declaration: false },
      { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => undefined },
    );
    const read = (name) => this.#changed.get(name)?.text ?? ts.sys.readFile(name);
    this.#service = ts.createLanguageService({
      ...ts.sys,
      getCompilationSettings: () => options,
      getScriptFileNames: () => fileNames,
      getScriptVersion: (name) => String(this.#changed.get(name)?.version ?? 0),
      getScriptSnapshot: (name) => {
        const text = read(name);
        return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
      },
      getDefaultLibFileName: ts.getDefaultLibFilePath,
      useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
    });
  }

  /** What a file with another text is compiled to, and whether the text is without errors. */
  compile(file, text) {
    const name = join(root, file);
    this.#changed.set(name, { text, version: ++this.#version });
    const { outputFiles } = this.#service.getEmitOutput(name);
    const errors = [
      ...this.#service.getSyntacticDiagnostics(name),
      ...this.#service.getSemanticDiagnostics(name),
    ];
    this.#changed.delete(name);
    return { output: outputFiles[0].text, isValid: errors.length === 0 };
  }
}

export class LibTarget {
  name = 'lib';
  #compiler;
  #usualSeconds = new Map();

  /** @returns {import('./mutation.mjs').Mutation[]} */
  mutations() {
    return readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
      .filter((name) => /(?<!\.d)\.[mc]?ts$/.test(name))
      .sort()
      .map((name) => `lib/${name}`)
      .flatMap((file) => [...mutationsOfTypeScript(file, sourceOf(file))]);
  }

  /** Compiles the library as it is, and measures its tests. */
  async prepare(folder) {
    if (!existsSync(join(root, 'build', 'Release')))
      throw new Error('The tests of the library need the addon. Run `npm run build:addon`.');
    const { ok, output } = await run('npm', ['run', 'compile']);
    if (!ok) throw new Error(output);
    this.#compiler = new Compiler();
    const lane = this.openLane(join(folder, 'unchanged'));
    for (const stage of this.#stages(undefined)) {
      const start = performance.now();
      if (!(await this.#passes(lane, stage, 600))) {
        throw new Error(`The tests fail without any mutation: ${stage.join(' ')}`);
      }
      this.#usualSeconds.set(stage.join(), (performance.now() - start) / 1000);
    }
  }

  /** A place in which one mutation at a time is tried out. */
  openLane(folder) {
    mkdirSync(join(folder, 'test'), { recursive: true });
    for (const name of COPIED) cpSync(join(root, name), join(folder, name), { recursive: true });
    for (const name of COPIED_TESTS) {
      cpSync(join(root, 'test', name), join(folder, 'test', name), { recursive: true });
    }
    for (const name of LINKED) symlinkSync(join(root, name), join(folder, name));
    return folder;
  }

  /** @returns {Promise<'killed' | 'survived' | 'not compiled' | 'no change'>} */
  async tryOut(mutation, lane) {
    const { file } = mutation;
    const source = sourceOf(file);
    const changed = mutated(source, mutation);
    const [before, after] = [source, changed].map((text) => this.#compiler.compile(file, text));
    if (!after.isValid) return 'not compiled';
    if (after.output === before.output) return 'no change';
    write(lane, file, changed, after.output);
    try {
      return await this.#test(file, lane);
    } finally {
      write(lane, file, source, before.output);
    }
  }

  async #test(file, lane) {
    for (const stage of this.#stages(file)) {
      const usual = this.#usualSeconds.get(stage.join()) ?? 0;
      if (!(await this.#passes(lane, stage, LEAST_SECONDS + PATIENCE * usual))) return 'killed';
    }
    return 'survived';
  }

  /** The tests of the file itself, then those that take little time, then all others. */
  #stages(file) {
    const stages = [['test/lib', 'test/protocol'], ['test/scenarios'], COMPILED_TESTS];
    if (file === undefined) return stages;
    if (file.startsWith('lib/cli/')) return [['test/cli']];
    const own = `test/lib/${basename(file).replace(/\.[mc]?ts$/, '.test.ts')}`;
    return readdirSync(join(root, 'test', 'lib')).includes(basename(own))
      ? [[own], ...stages]
      : stages;
  }

  async #passes(lane, tests, seconds) {
    const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
    const { ok } = await run(
      'timeout',
      [
        ...['--signal=KILL', String(Math.ceil(seconds)), process.execPath, vitest, 'run'],
        ...['--root', lane, '--project=netverdict', '--reporter=dot', '--bail=1', '--maxWorkers=1'],
        ...[`--testTimeout=${TEST_TIMEOUT_MS}`, ...tests],
      ],
      { NETVERDICT_PREBUILD: root },
    );
    return ok;
  }
}

/** Writes a source, and what it is compiled to. */
function write(lane, file, text, output) {
  writeFileSync(join(lane, file), text);
  const compiled = file.replace(/^lib/, 'dist').replace(/\.([mc]?)ts$/, '.$1js');
  writeFileSync(join(lane, compiled), output);
}
