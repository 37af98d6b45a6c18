// What a Node.js needs in its environment to load the addon that was built with sanitizers.
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
  ASAN_OPTIONS: 'detect_leaks=0', // Node.js itself ends without freeing all
});

export const threadSanitizedAddon = () => ({
  ...addon('tsan', 'libtsan.so'),
  // Node.js itself is built without: of its own threads nothing is known.
  TSAN_OPTIONS: 'ignore_noninstrumented_modules=1',
});
