/** base_session.bin is what a base client gets over a fixed script of traffic (test/unit/kext/base_session_test.cc). */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseInfo } from '../../lib/codec/decoder.js';

const stream = Uint8Array.from(readFileSync(new URL('base_session.bin', import.meta.url)));

describe('the base session', () => {
  it('has only records of the base protocol, and the library decodes each of them', () => {
    const types = new Set(parseInfo(stream).map((record) => record.type));

    expect([...types].sort()).toEqual(['bandwidth', 'connection', 'connection-end']);
  });
});
