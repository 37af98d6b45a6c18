import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Reads the version of this package from its manifest, two folders up. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8'),
  );
  return (manifest as { version: string }).version;
}
