// The environment in which Node.js loads an addon that was built with sanitizers.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './run.mjs';

const runtime = (name) =>
  execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();

const addon = (preset, ...runtimes) => ({
  NETVERDICT_PREBUILD: join(root, 'build', preset),
  LD_PRELOAD: runtimes.map(runtime).join(' '),
});

export const sanitizedAddon = () => ({
  ...addon('asan', 'libasan.so', 'libubsan.so'),
  ASAN_OPTIONS: 'detect_leaks=0', // Node.js does not free everything at its end
});

export const threadSanitizedAddon = () => ({
  ...addon('tsan', 'libtsan.so'),
  // Node.js is built without ThreadSanitizer, which knows nothing of its threads.
  TSAN_OPTIONS: 'ignore_noninstrumented_modules=1',
});
