// Fuzzes policies with any text or value, most of them close to valid policies.
// A policy is refused with an error that says why, or it decides on every connection.
// The same rule decides for addresses as text and as bytes. The seeds are those of examples/ and of the corpus.
// The policies of examples/ are valid.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { changed, corpusOf, examplePolicies } from './corpus.mjs';
import { formatAddress, InvalidArgumentError, Policy, Verdict } from '../../../dist/index.mjs';

const VERDICTS = new Set(Object.values(Verdict));
const VERDICT_NAMES = [
  'accept',
  'permanent-accept',
  'block',
  'permanent-block',
  'drop',
  'permanent-drop',
  'redirect-nameserver',
  'redirect-tunnel',
  'redirect-split-tunnel',
];

const oneOf = (...values) => fc.constantFrom(...values);
/** The expected value of the field, or sometimes any value. */
const nearly = (arbitrary) =>
  fc.oneof({ weight: 30, arbitrary }, { weight: 1, arbitrary: fc.jsonValue() });
const oneOrMore = (arbitrary) =>
  fc.oneof(arbitrary, fc.array(arbitrary, { minLength: 1, maxLength: 4 }));

const address = fc.oneof(fc.ipV4(), fc.ipV6());
const prefix = fc.oneof(
  address,
  fc.tuple(address, fc.nat(140)).map(([text, length]) => `${text}/${length}`),
  fc.tuple(fc.ipV4(), fc.nat(32)).map(([text, length]) => `${text}/${length}`),
);
const port = fc.oneof(
  fc.nat(65535),
  fc.nat(65535).map(String),
  fc.tuple(fc.nat(65535), fc.nat(66000)).map(([first, last]) => `${first}-${last}`),
);

const endpoint = fc.record(
  { address: nearly(oneOrMore(prefix)), port: nearly(oneOrMore(port)) },
  { requiredKeys: [] },
);

const rule = fc.record(
  {
    name: nearly(fc.string()),
    direction: nearly(oneOf('outbound', 'inbound')),
    protocol: nearly(oneOrMore(fc.oneof(oneOf('tcp', 'udp', 'icmp', 'icmpv6'), fc.nat(255)))),
    processId: nearly(oneOrMore(fc.nat())),
    local: nearly(endpoint),
    remote: nearly(endpoint),
    verdict: nearly(oneOf(...VERDICT_NAMES)),
  },
  { requiredKeys: ['verdict'] },
);

const policyValue = fc.record({
  rules: nearly(fc.array(rule, { maxLength: 6 })),
  default: nearly(oneOf(...VERDICT_NAMES)),
});

const written = [...examplePolicies(), ...corpusOf('policy')];

const source = fc.oneof(
  { weight: 12, arbitrary: policyValue },
  { weight: 6, arbitrary: policyValue.map((value) => JSON.stringify(value)) },
  {
    weight: 3,
    arbitrary: changed(fc.constantFrom(...written)).map((bytes) => bytes.toString('utf8')),
  },
  { weight: 1, arbitrary: fc.anything() },
  { weight: 1, arbitrary: fc.string() },
);

const addressBytes = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);

const subject = fc
  .record({
    direction: oneOf('outbound', 'inbound'),
    protocol: fc.oneof(oneOf(6, 17, 1, 58), fc.nat(255)),
    processId: fc.nat(),
    localAddressBytes: addressBytes,
    localPort: fc.nat(65535),
    remoteAddressBytes: addressBytes,
    remotePort: fc.nat(65535),
  })
  .map((fields) => ({
    ...fields,
    localAddress: formatAddress(fields.localAddressBytes),
    remoteAddress: formatAddress(fields.remoteAddressBytes),
  }));

const SUBJECT = {
  direction: 'outbound',
  protocol: 6,
  processId: 42,
  localAddress: '10.77.0.2',
  localAddressBytes: Uint8Array.of(10, 77, 0, 2),
  localPort: 40_778,
  remoteAddress: '10.77.0.1',
  remoteAddressBytes: Uint8Array.of(10, 77, 0, 1),
  remotePort: 9999,
};

/** Throws an error if a valid policy is refused. */
function checkSeeds() {
  for (const bytes of examplePolicies()) Policy.parse(bytes.toString('utf8'));
}

function parse(value) {
  try {
    return Policy.parse(value);
  } catch (error) {
    assert.ok(error instanceof InvalidArgumentError, `${error?.stack}`);
    assert.ok(error.message.length > 0);
    return undefined;
  }
}

function checkDecision(parsed, subject) {
  const asText = { ...subject, localAddressBytes: undefined, remoteAddressBytes: undefined };
  const verdict = parsed.decide(subject);
  assert.ok(VERDICTS.has(verdict));
  assert.equal(parsed.decide(asText), verdict);
  const match = parsed.match(subject);
  assert.ok(
    match === undefined ? verdict === parsed.defaultVerdict : match.index < parsed.ruleCount,
  );
}

/** About a fifth of the inputs are valid policies. */
export const policy = {
  examples: written.map((bytes) => [bytes.toString('utf8'), [SUBJECT]]),
  checkSeeds,
  leastAccepted: 0.1,
  property: (accepted) =>
    fc.property(source, fc.array(subject, { minLength: 1, maxLength: 4 }), (value, subjects) => {
      const parsed = parse(value);
      if (parsed === undefined) return;
      accepted();
      for (const each of subjects) checkDecision(parsed, each);
    }),
};
