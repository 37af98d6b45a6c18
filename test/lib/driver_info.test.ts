import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../../lib/base/errors.js';
import {
  decodeCapabilities,
  decodeStatistics,
  decodeVersion,
} from '../../lib/codec/driver_info.js';

describe('a reply of the driver', () => {
  it('from an older driver shows the missing counters as 0', () => {
    const reply = Buffer.alloc(12);
    reply.writeUInt32LE(12);
    reply.writeBigUInt64LE(5n, 4);
    const statistics = decodeStatistics(reply);
    expect(statistics.eventsQueued).toBe(5n);
    expect(statistics.eventsDelivered).toBe(0n);
    expect(statistics.engineState).toBe('unknown');
    expect(Object.keys(statistics)).toHaveLength(23);
  });

  it('that is too short is refused', () => {
    expect(() => decodeVersion(new Uint8Array(3))).toThrow(ProtocolError);
    expect(() => decodeCapabilities(new Uint8Array(19))).toThrow(/capabilities, not 20/);
    expect(() => decodeStatistics(new Uint8Array(0))).toThrow(ProtocolError);
  });
});
