import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../lib/base/errors.js';
import {
  formatAddress,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../lib/codec/addresses.js';

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);

describe('formatAddress', () => {
  it.each([
    ['c0000201', '192.0.2.1'],
    ['00000000', '0.0.0.0'],
    ['ffffffff', '255.255.255.255'],
    ['00000000000000000000000000000000', '::'],
    ['00000000000000000000000000000001', '::1'],
    ['fe800000000000000000000000000000', 'fe80::'],
    ['20010db8000000000000000000020001', '2001:db8::2:1'],
    ['20010db8000000010001000100010001', '2001:db8:0:1:1:1:1:1'],
    ['20010db8000000000001000000000001', '2001:db8::1:0:0:1'],
    ['20010000000000010000000000000001', '2001:0:0:1::1'],
    ['20010db80aaa0bbb0ccc0ddd0eeeffff', '2001:db8:aaa:bbb:ccc:ddd:eee:ffff'],
    ['00000000000000000000ffffc0000201', '::ffff:192.0.2.1'],
    ['00000001000000000000000000000000', '0:1::'],
  ])('formats %s as RFC 5952 recommends: %s', (hex, text) => {
    expect(formatAddress(Buffer.from(hex, 'hex'))).toBe(text);
  });

  it('refuses any other number of bytes', () => {
    expect(() => formatAddress(new Uint8Array(5))).toThrow(InvalidArgumentError);
  });

  it('agrees with the URL parser on every IPv6 address without an embedded IPv4 address', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const text = formatAddress(bytes);
        expect(isIPv6(text)).toBe(true);
        if (!text.includes('.')) expect(new URL(`http://[${text}]`).hostname).toBe(`[${text}]`);
      }),
    );
  });
});

describe('parseAddress', () => {
  it('parses every address that formatAddress formats', () => {
    fc.assert(
      fc.property(address, (bytes) => {
        expect(parseAddress(formatAddress(bytes))).toEqual(Uint8Array.from(bytes));
      }),
    );
  });

  it.each([
    ['2001:DB8:0:0:0:0:0:1', '20010db8000000000000000000000001'],
    ['1::', '00010000000000000000000000000000'],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
    ['64:ff9b::192.0.2.33', '0064ff9b0000000000000000c0000221'],
  ])('parses %s', (text, hex) => {
    expect(Buffer.from(parseAddress(text)).toString('hex')).toBe(hex);
  });

  it.each(['', '192.0.2', '192.0.2.256', '[::1]', '::1%eth0', 'example.org', '192.0.2.1:80'])(
    'refuses %j and shows valid addresses',
    (text) => {
      expect(() => parseAddress(text)).toThrow(/is not an IP address. Write it as/);
    },
  );
});

describe('parsePrefix', () => {
  it('parses an address alone as a network of one address', () => {
    expect(parsePrefix('192.0.2.1').length).toBe(32);
    expect(parsePrefix('::1').length).toBe(128);
  });

  it.each(['10.0.0.0/33', '10.0.0.0/', '::/129', '::/-1', '10.0.0.0/8.5', '/8'])(
    'refuses %j',
    (text) => {
      expect(() => parsePrefix(text)).toThrow(InvalidArgumentError);
    },
  );
});

describe('prefixContains', () => {
  it.each([
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.128.0.0/9', '10.127.255.255', false],
    ['10.128.0.0/9', '10.128.0.0', true],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '::1', false],
    ['2001:db8::/32', '2001:db8:ffff::', true],
    ['2001:db8::/33', '2001:db8:8000::', false],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.2', false],
  ])('%s contains %s: %s', (prefix, text, expected) => {
    expect(prefixContains(parsePrefix(prefix), parseAddress(text))).toBe(expected);
  });

  it('compares only the leading bits', () => {
    fc.assert(
      fc.property(address, fc.nat(), (bytes, n) => {
        const bits = bytes.length * 8;
        const length = n % (bits + 1);
        const prefix = { address: bytes, length };
        expect(prefixContains(prefix, bytes)).toBe(true);
        for (let bit = 0; bit < bits; bit++) {
          const other = Uint8Array.from(bytes);
          other[bit >> 3]! ^= 0x80 >> (bit & 7);
          expect(prefixContains(prefix, other)).toBe(bit >= length);
        }
      }),
      { numRuns: 50 },
    );
  });
});
