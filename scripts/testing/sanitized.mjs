// The environment in which Node.js loads an addon that was built with sanitizers.
import { execFileSync } from 'node:child_process';
import { machine } from 'node:os';
import { join } from 'node:path';
import { root } from './run.mjs';

const addon = (preset, compiler, runtime) => ({
  NETVERDICT_PREBUILD: join(root, 'build', preset),
  LD_PRELOAD: execFileSync(compiler, [`-print-file-name=${runtime}`], { encoding: 'utf8' }).trim(),
});

export const sanitizedAddon = () => ({
  ...addon('asan', 'clang-19', `libclang_rt.asan-${machine()}.so`), // it has UndefinedBehaviorSanitizer, too
  ASAN_OPTIONS: 'detect_leaks=0', // Node.js does not free everything at its end
});

export const threadSanitizedAddon = () => ({
  ...addon('tsan', 'g++', 'libtsan.so'),
  // Node.js is built without ThreadSanitizer, which knows nothing of its threads.
  TSAN_OPTIONS: 'ignore_noninstrumented_modules=1',
});
