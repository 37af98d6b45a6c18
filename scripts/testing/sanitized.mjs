// What a Node.js needs in its environment to load the addon that was built with the sanitizers.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './run.mjs';

const runtime = (name) =>
  execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();

export const sanitizedAddon = () => ({
  NETVERDICT_PREBUILD: join(root, 'build', 'asan'),
  LD_PRELOAD: [runtime('libasan.so'), runtime('libubsan.so')].join(' '),
  ASAN_OPTIONS: 'detect_leaks=0', // Node.js itself ends without freeing all
});
