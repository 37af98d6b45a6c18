/** Policies: ordered rules that decide on connections. */

import { z } from 'zod';
import { describeIssue, parsed, portSchema, processIdSchema } from '../base/checks.js';
import { InvalidArgumentError } from '../base/errors.js';
import {
  parseAddress,
  parsePrefix,
  prefixContains,
  type AddressPrefix,
} from '../codec/addresses.js';
import type { Direction } from '../codec/events.js';
import { protocolNumber } from '../codec/protocols.js';
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

interface EndpointMatcher {
  readonly addresses: readonly AddressPrefix[] | undefined;
  readonly ports: readonly PortRange[] | undefined;
}

interface Rule {
  readonly name: string | undefined;
  readonly direction: Direction | undefined;
  readonly protocols: readonly number[] | undefined;
  readonly processIds: readonly number[] | undefined;
  readonly local: EndpointMatcher | undefined;
  readonly remote: EndpointMatcher | undefined;
  readonly verdict: Verdict;
}

const VERDICT_LIST = Object.keys(VERDICT_NAMES) as [VerdictName, ...VerdictName[]];

const verdictSchema = z
  .enum(VERDICT_LIST, { error: (issue) => describeVerdict(issue.input) })
  .transform((name) => VERDICT_NAMES[name]);

const protocolSchema = z.union([z.string(), z.number()]).transform((value, context) => {
  const number = typeof value === 'string' ? protocolNumber(value) : value;
  if (number === undefined || !Number.isInteger(number) || number < 0 || number > 0xff) {
    context.addIssue(
      `${JSON.stringify(value)} is not a protocol: write a name such as 'tcp' or a number from 0 to 255`,
    );
    return z.NEVER;
  }
  return number;
});

const portsSchema = z.union([z.number(), z.string()]).transform((value, context) => {
  const range = parsePorts(value);
  if (range === undefined) {
    context.addIssue(
      `${JSON.stringify(value)} is neither a port from 0 to 65535 nor a range such as '1000-2000'`,
    );
    return z.NEVER;
  }
  return range;
});

const endpointSchema = z
  .strictObject({
    address: oneOrMore(parsed(parsePrefix)).optional(),
    port: oneOrMore(portsSchema).optional(),
  })
  .transform(({ address, port }): EndpointMatcher => ({ addresses: address, ports: port }));

const ruleSchema = z.strictObject({
  name: z.string().optional(),
  direction: z.enum(['outbound', 'inbound']).optional(),
  protocol: oneOrMore(protocolSchema).optional(),
  processId: oneOrMore(processIdSchema).optional(),
  local: endpointSchema.optional(),
  remote: endpointSchema.optional(),
  verdict: verdictSchema,
});

const policySchema = z.strictObject({
  rules: z.array(ruleSchema).default([]),
  default: verdictSchema,
});

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
    const value = typeof json === 'string' ? parseJson(json) : json;
    const result = policySchema.safeParse(value);
    if (!result.success) {
      const problems = result.error.issues.map((issue) => describeProblem(issue, value));
      throw new InvalidArgumentError(`The policy is not valid: ${problems.join('; ')}.`, {
        cause: result.error,
      });
    }
    const rules = result.data.rules.map(
      ({ name, direction, protocol, processId, local, remote, verdict }): Rule => ({
        name,
        direction,
        protocols: protocol,
        processIds: processId,
        local,
        remote,
        verdict,
      }),
    );
    return new Policy(rules, result.data.default);
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

function oneOrMore<T extends z.ZodType>(schema: T): z.ZodType<z.output<T>[]> {
  return z.preprocess(
    (value) => (Array.isArray(value) ? (value as unknown[]) : [value]),
    z.array(schema).min(1, 'must not be an empty list: leave the field out to match anything'),
  );
}

function matches(rule: Rule, subject: PolicySubject): boolean {
  return (
    (rule.direction === undefined || rule.direction === subject.direction) &&
    (rule.protocols === undefined || rule.protocols.includes(subject.protocol)) &&
    (rule.processIds === undefined || rule.processIds.includes(subject.processId)) &&
    matchesPorts(rule.local, subject.localPort) &&
    matchesPorts(rule.remote, subject.remotePort) &&
    matchesAddresses(rule.local, () => localBytes(subject)) &&
    matchesAddresses(rule.remote, () => remoteBytes(subject))
  );
}

function matchesPorts(endpoint: EndpointMatcher | undefined, port: number): boolean {
  return (
    endpoint?.ports === undefined ||
    endpoint.ports.some(({ first, last }) => port >= first && port <= last)
  );
}

function matchesAddresses(
  endpoint: EndpointMatcher | undefined,
  readAddress: () => Uint8Array,
): boolean {
  if (endpoint?.addresses === undefined) {
    return true;
  }
  const address = readAddress();
  return endpoint.addresses.some((prefix) => prefixContains(prefix, address));
}

function localBytes(subject: PolicySubject): Uint8Array {
  return subject.localAddressBytes ?? parseAddress(subject.localAddress);
}

function remoteBytes(subject: PolicySubject): Uint8Array {
  return subject.remoteAddressBytes ?? parseAddress(subject.remoteAddress);
}

function parsePorts(value: number | string): PortRange | undefined {
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value)) ?? [];
  const range = { first: Number(first), last: Number(last) };
  const isValid =
    portSchema.safeParse(range.first).success &&
    portSchema.safeParse(range.last).success &&
    range.first <= range.last;
  return isValid ? range : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, '')) as unknown;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(`The policy is not JSON: ${reason}.`, { cause });
  }
}

/** Describes an issue as `rules[2] ("no telnet").remote.port: problem`. */
function describeProblem(issue: z.core.$ZodIssue, policy: unknown): string {
  const text = describeIssue({ ...issue, path: pathAsWritten(issue.path, policy) });
  const [field, index] = issue.path;
  if (field !== 'rules' || typeof index !== 'number') {
    return text;
  }
  const name = ruleName(policy, index);
  const place = `rules[${index}]`;
  return name === undefined ? text : text.replace(place, `${place} ("${name}")`);
}

/** Removes from the path the index of a value that was written without a list around it. */
function pathAsWritten(path: readonly PropertyKey[], policy: unknown): PropertyKey[] {
  let value = policy;
  return path.filter((key) => {
    if (typeof key === 'number' && !Array.isArray(value)) {
      return false;
    }
    value = (value as Record<PropertyKey, unknown>)[key];
    return true;
  });
}

function ruleName(policy: unknown, index: number): string | undefined {
  const rule = (policy as { rules: unknown[] }).rules[index];
  const name =
    typeof rule === 'object' && rule !== null ? (rule as { name?: unknown }).name : undefined;
  return typeof name === 'string' ? name : undefined;
}

function describeVerdict(input: unknown): string {
  const given = input === undefined ? 'missing' : `${JSON.stringify(input)} is not a verdict`;
  return `${given}; write one of ${VERDICT_LIST.join(', ')}`;
}
