import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The examples in the README's order, and what each prints. */
const examples: [string, string[]][] = [
  [
    'first-verdicts.mjs',
    [
      'process 4242 → 192.0.2.1:23',
      'process 812 → 192.0.2.1:443',
      'telnet: blocked web: permitted',
    ],
  ],
  ['ask.mjs', ['permitted']],
  [
    'policy-app.mjs',
    [
      "the browser asks for a name: { redirectedTo: { address: '127.0.0.1', port: 53 } }",
      "the browser opens a page: { redirectedTo: { address: '192.0.2.10', port: 717 } }",
      'telnet connects: blocked',
      'our own resolver asks: permitted',
    ],
  ],
];

const inReadme = [
  ...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/^```js\n(.*?)^```$/gms),
].map((match) => match[1]);

describe.each(examples.map(([file, output], index) => ({ file, output, index })))(
  'examples/$file',
  ({ file, output, index }) => {
    const path = join(root, 'examples', file);

    it('runs against the simulator', () => {
      const printed = execFileSync(process.execPath, [path], { encoding: 'utf8' });
      expect(printed.trim().split('\n')).toEqual(output);
    });

    it('stands in the README as it is', () => {
      expect(inReadme[index]).toBe(readFileSync(path, 'utf8'));
    });
  },
);
