/** IP addresses as text, and as bytes in network order. */

import { isIPv4, isIPv6 } from 'node:net';
import { InvalidArgumentError } from '../base/errors.js';
import { cut } from '../base/text.js';

/** A network: an address, and the number of leading bits that matter. */
export interface AddressPrefix {
  /** The address: 4 or 16 bytes in network order. */
  readonly address: Uint8Array;
  /** The number of leading bits: 0 to 32 for IPv4, 0 to 128 for IPv6. */
  readonly length: number;
}

const IPV6_GROUPS = 8;

/** @internal */
export function formatIPv4(bytes: Uint8Array, offset: number): string {
  return `${at(bytes, offset)}.${at(bytes, offset + 1)}.${at(bytes, offset + 2)}.${at(bytes, offset + 3)}`;
}

/** @internal */
export function formatIPv6(bytes: Uint8Array, offset: number): string {
  if (isIPv4Mapped(bytes, offset)) {
    return `::ffff:${formatIPv4(bytes, offset + 12)}`;
  }
  const zeros = longestZeroRun(bytes, offset);
  const head = formatGroups(bytes, offset, 0, zeros.start);
  if (zeros.length === 0) {
    return head;
  }
  return `${head}::${formatGroups(bytes, offset, zeros.start + zeros.length, IPV6_GROUPS)}`;
}

/**
 * Formats an address of 4 or 16 bytes: dotted decimal for IPv4, as RFC 5952 recommends for IPv6.
 *
 * @throws {@link InvalidArgumentError} for any other number of bytes.
 * @example
 * ```ts
 * formatAddress(Uint8Array.of(192, 0, 2, 1)); // '192.0.2.1'
 * ```
 */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) {
    return formatIPv4(bytes, 0);
  }
  if (bytes.length === 16) {
    return formatIPv6(bytes, 0);
  }
  throw new InvalidArgumentError(
    `An address has 4 or 16 bytes, not ${bytes.length}. Pass the bytes of one address.`,
  );
}

/**
 * Parses an IPv4 or IPv6 address into 4 or 16 bytes in network order.
 *
 * @throws {@link InvalidArgumentError} for any other text. A zone (`%eth0`) is not part of an address.
 * @example
 * ```ts
 * parseAddress('2001:db8::1').length; // 16
 * ```
 */
export function parseAddress(text: string): Uint8Array {
  if (isIPv4(text)) {
    return parseIPv4(text);
  }
  if (isIPv6(text) && !text.includes('%')) {
    return parseIPv6(text);
  }
  throw new InvalidArgumentError(
    `'${cut(text)}' is not an IP address. Write it as '192.0.2.1' or '2001:db8::1', without port, brackets or zone.`,
  );
}

/**
 * Parses `address/length`. An address alone is a network of one address.
 *
 * @throws {@link InvalidArgumentError} for any other text.
 * @example
 * ```ts
 * parsePrefix('10.0.0.0/8').length; // 8
 * ```
 */
export function parsePrefix(text: string): AddressPrefix {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const bits = address.length * 8;
  if (slash < 0) {
    return { address, length: bits };
  }
  const digits = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(digits) || Number(digits) > bits) {
    throw new InvalidArgumentError(
      `'${cut(text)}' has no prefix length from 0 to ${bits} after the slash. Write it as '10.0.0.0/8'.`,
    );
  }
  return { address, length: Number(digits) };
}

/** @internal Whether `address` lies in `prefix`. An address of the other IP version never does. */
export function prefixContains(prefix: AddressPrefix, address: Uint8Array): boolean {
  if (prefix.address.length !== address.length) {
    return false;
  }
  const wholeBytes = prefix.length >> 3;
  for (let index = 0; index < wholeBytes; index++) {
    if (prefix.address[index] !== address[index]) {
      return false;
    }
  }
  const mask = (0xff00 >> (prefix.length & 7)) & 0xff;
  return mask === 0 || ((at(prefix.address, wholeBytes) ^ at(address, wholeBytes)) & mask) === 0;
}

function at(bytes: Uint8Array, index: number): number {
  return bytes[index] ?? 0;
}

function groupAt(bytes: Uint8Array, offset: number, group: number): number {
  return (at(bytes, offset + 2 * group) << 8) | at(bytes, offset + 2 * group + 1);
}

function isIPv4Mapped(bytes: Uint8Array, offset: number): boolean {
  for (let index = 0; index < 10; index++) {
    if (bytes[offset + index] !== 0) {
      return false;
    }
  }
  return groupAt(bytes, offset, 5) === 0xffff;
}

function formatGroups(bytes: Uint8Array, offset: number, from: number, to: number): string {
  let text = '';
  for (let group = from; group < to; group++) {
    const digits = groupAt(bytes, offset, group).toString(16);
    text += group === from ? digits : `:${digits}`;
  }
  return text;
}

/** Finds the first of the longest runs of zero groups. A single zero group is not shortened (RFC 5952, 4.2). */
function longestZeroRun(bytes: Uint8Array, offset: number): { start: number; length: number } {
  let start = IPV6_GROUPS;
  let length = 0;
  let run = 0;
  for (let group = 0; group < IPV6_GROUPS; group++) {
    run = groupAt(bytes, offset, group) === 0 ? run + 1 : 0;
    if (run > 1 && run > length) {
      start = group - run + 1;
      length = run;
    }
  }
  return { start, length };
}

function parseIPv4(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

function parseIPv6(text: string): Uint8Array {
  const [head = '', tail] = text.split('::');
  const headBytes = parseGroups(head);
  const tailBytes = parseGroups(tail ?? '');
  const bytes = new Uint8Array(16);
  bytes.set(headBytes, 0);
  bytes.set(tailBytes, 16 - tailBytes.length);
  return bytes;
}

function parseGroups(text: string): number[] {
  if (text === '') {
    return [];
  }
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) {
      return [...parseIPv4(group)];
    }
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}
