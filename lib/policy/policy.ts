/** Policies: ordered rules that decide on connections. */

import {
  check,
  choice,
  object,
  oneOrMore,
  optional,
  parsed,
  processIdSchema,
  text,
  withDefault,
  type Checked,
  type Schema,
} from '../base/checks.js';
import { cut, quoted } from '../base/text.js';
import { parseAddress, parsePrefix, prefixContains } from '../codec/addresses.js';
import type { Direction } from '../codec/events.js';
import { protocolNumber } from '../codec/protocols.js';
import { parseJson } from './json.js';
import { VERDICT_NAMES, type Verdict, type VerdictName } from '../codec/verdicts.js';

/** The fields that a policy compares. Every `connection` event has them. */
export interface PolicySubject {
  /** Which end started the connection: this computer (`'outbound'`) or the other end (`'inbound'`). */
  readonly direction: Direction;
  /** The IANA number of the protocol above IP. */
  readonly protocol: number;
  /** The id of the process that owns the connection. */
  readonly processId: number;
  /** This computer's address. */
  readonly localAddress: string;
  /** This computer's port; 0 for protocols without ports. */
  readonly localPort: number;
  /** The other end's address. */
  readonly remoteAddress: string;
  /** The other end's port; 0 for protocols without ports. */
  readonly remotePort: number;
  /** The bytes of `localAddress`, if they are known; saves parsing it. */
  readonly localAddressBytes?: Uint8Array;
  /** The bytes of `remoteAddress`, if they are known; saves parsing it. */
  readonly remoteAddressBytes?: Uint8Array;
}

/** The rule that decides on a connection. */
export interface PolicyMatch {
  /** The index of the rule, from 0. */
  readonly index: number;
  /** The name of the rule, if it has one. */
  readonly name?: string;
}

interface PortRange {
  readonly first: number;
  readonly last: number;
}

type EndpointMatcher = Checked<typeof endpointSchema>;

const VERDICT_LIST = Object.keys(VERDICT_NAMES) as VerdictName[];

const verdictSchema: Schema<Verdict> = (value, place) =>
  VERDICT_LIST.includes(value as VerdictName)
    ? VERDICT_NAMES[value as VerdictName]
    : place.report(
        `${value === undefined ? 'missing' : `${quoted(value)} is not a verdict`}; ` +
          `write one of ${VERDICT_LIST.join(', ')}`,
      );

const protocolSchema: Schema<number> = (value, place) => {
  const number = typeof value === 'string' ? protocolNumber(value) : value;
  return isWhole(number, 0xff)
    ? number
    : place.report(
        `${quoted(value)} is not a protocol: write a name such as 'tcp' or a number from 0 to 255`,
      );
};

const portsSchema: Schema<PortRange> = (value, place) =>
  parsePorts(value) ??
  place.report(
    `${quoted(value)} is neither a port from 0 to 65535 nor a range such as '1000-2000'`,
  );

const endpointSchema = object({
  address: optional(oneOrMore(parsed(parsePrefix))),
  port: optional(oneOrMore(portsSchema)),
});

const ruleSchema = object({
  name: optional(text()),
  direction: optional(choice(['outbound', 'inbound'])),
  protocol: optional(oneOrMore(protocolSchema)),
  processId: optional(oneOrMore(processIdSchema)),
  local: optional(endpointSchema),
  remote: optional(endpointSchema),
  verdict: verdictSchema,
});

type Rule = Checked<typeof ruleSchema>;

/** Reads the rules. The place of a problem has the name of its rule. */
const rulesSchema: Schema<Rule[]> = (value, place) =>
  Array.isArray(value)
    ? Array.from(value, (rule, index) => ruleSchema(rule, place.at(index, noteOf(rule))))
    : place.report('must be a list of rules');

const policySchema = object({ rules: withDefault(rulesSchema, []), default: verdictSchema });

/**
 * Ordered rules and a default: the first rule that matches decides.
 *
 * A policy is written as JSON. Every field of a rule except `verdict` is optional; an omitted field matches anything.
 * `protocol`, `address`, `port` and `processId` take one value or a list.
 *
 * @example
 * ```ts
 * const policy = Policy.parse(`{
 *   "rules": [
 *     { "name": "no telnet", "protocol": "tcp", "remote": { "port": 23 }, "verdict": "permanent-block" },
 *     { "direction": "inbound", "remote": { "address": ["10.0.0.0/8", "fd00::/8"] }, "verdict": "permanent-accept" },
 *     { "protocol": "udp", "local": { "port": "1000-2000" }, "processId": [4, 812], "verdict": "drop" }
 *   ],
 *   "default": "permanent-accept"
 * }`);
 * device.setVerdict(event.id, policy.decide(event));
 * ```
 */
export class Policy {
  /** The verdict for connections that no rule matches. */
  readonly defaultVerdict: Verdict;
  readonly #rules: readonly Rule[];

  private constructor(rules: readonly Rule[], defaultVerdict: Verdict) {
    this.#rules = rules;
    this.defaultVerdict = defaultVerdict;
  }

  /**
   * Reads a policy from JSON text, or from the value that `JSON.parse` returns for it.
   *
   * @throws {@link InvalidArgumentError} that names the rule and the field.
   */
  static parse(json: unknown): Policy {
    const value = typeof json === 'string' ? parseJson(json, 'The policy') : json;
    const policy = check(policySchema, value, 'The policy is not valid');
    return new Policy(policy.rules, policy.default);
  }

  /** The number of rules. */
  get ruleCount(): number {
    return this.#rules.length;
  }

  /** The verdict of the first rule that matches, or the default verdict. */
  decide(subject: PolicySubject): Verdict {
    return this.#rules.find((rule) => matches(rule, subject))?.verdict ?? this.defaultVerdict;
  }

  /** The first rule that matches; undefined if the default verdict applies. */
  match(subject: PolicySubject): PolicyMatch | undefined {
    const index = this.#rules.findIndex((rule) => matches(rule, subject));
    if (index < 0) {
      return undefined;
    }
    const name = this.#rules[index]?.name;
    return name === undefined ? { index } : { index, name };
  }
}

function matches(rule: Rule, subject: PolicySubject): boolean {
  return (
    (rule.direction === undefined || rule.direction === subject.direction) &&
    (rule.protocol === undefined || rule.protocol.includes(subject.protocol)) &&
    (rule.processId === undefined || rule.processId.includes(subject.processId)) &&
    matchesPorts(rule.local, subject.localPort) &&
    matchesPorts(rule.remote, subject.remotePort) &&
    matchesAddresses(rule.local, () => localBytes(subject)) &&
    matchesAddresses(rule.remote, () => remoteBytes(subject))
  );
}

function matchesPorts(endpoint: EndpointMatcher | undefined, port: number): boolean {
  return (
    endpoint?.port === undefined ||
    endpoint.port.some(({ first, last }) => port >= first && port <= last)
  );
}

function matchesAddresses(
  endpoint: EndpointMatcher | undefined,
  readAddress: () => Uint8Array,
): boolean {
  if (endpoint?.address === undefined) {
    return true;
  }
  const address = readAddress();
  return endpoint.address.some((prefix) => prefixContains(prefix, address));
}

function localBytes(subject: PolicySubject): Uint8Array {
  return subject.localAddressBytes ?? parseAddress(subject.localAddress);
}

function remoteBytes(subject: PolicySubject): Uint8Array {
  return subject.remoteAddressBytes ?? parseAddress(subject.remoteAddress);
}

function parsePorts(value: unknown): PortRange | undefined {
  if (typeof value === 'number') {
    return isWhole(value, 0xffff) ? { first: value, last: value } : undefined;
  }
  const [, first, last = first] =
    /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(typeof value === 'string' ? value : '') ?? [];
  const range = { first: Number(first), last: Number(last) };
  return isWhole(range.first, range.last) && isWhole(range.last, 0xffff) ? range : undefined;
}

function isWhole(value: unknown, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

/** The name of a rule that is perhaps invalid, as messages show it after the rule's index. */
function noteOf(rule: unknown): string {
  const name =
    typeof rule === 'object' && rule !== null ? (rule as { name?: unknown }).name : undefined;
  return typeof name === 'string' ? ` ("${cut(name)}")` : '';
}
