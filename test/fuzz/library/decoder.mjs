// Fuzzes the decoder of the driver's stream with any bytes, most of them close to valid records.
// The same bytes give the same records, or the same error, for every split into pieces.
// Every field of every record can be read. The seeds are records of the bundled capture, and each is decoded.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { changed, corpusOf } from './corpus.mjs';
import { InfoDecoder, ProtocolError } from '../../../dist/index.mjs';

const MOST_BYTES = 400;
const HEADER_BYTES = 5;

const infoType = fc.oneof(
  fc.integer({ min: 0, max: 6 }),
  fc.integer({ min: 64, max: 70 }),
  fc.nat(255),
);

function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

const bytesOf = (maxLength) => fc.uint8Array({ maxLength });

const record = fc
  .record({
    type: infoType,
    body: bytesOf(MOST_BYTES),
    length: fc.option(fc.oneof(fc.nat(2 * MOST_BYTES), fc.nat(0xffff_ffff)), { freq: 12 }),
  })
  .map(({ type, body, length }) =>
    Buffer.concat([Buffer.of(type), u32(length ?? body.length), Buffer.from(body)]),
  );

/** A connection or bandwidth record, whose inner length or count may be wrong. */
const counted = fc
  .record({
    type: fc.constantFrom(1, 2, 5, 6),
    body: bytesOf(100),
    count: fc.nat(4),
    inner: bytesOf(160),
  })
  .map(({ type, body, count, inner }) => {
    const fixed = { 1: 31, 2: 55, 5: 1, 6: 1 }[type];
    const start = Buffer.alloc(fixed);
    start.set(body.subarray(0, fixed));
    const number = type <= 2 ? inner.length + (count === 4 ? 1 : 0) : count;
    const content = Buffer.concat([start, u32(number), Buffer.from(inner)]);
    return Buffer.concat([Buffer.of(type), u32(content.length), content]);
  });

const recorded = corpusOf('decoder');

const stream = fc
  .array(fc.oneof(record, counted, bytesOf(30), changed(fc.constantFrom(...recorded))), {
    maxLength: 8,
  })
  .map((parts) => Uint8Array.from(Buffer.concat(parts)));

function decode(pieces) {
  const decoder = new InfoDecoder();
  const records = [];
  let error;
  try {
    for (const piece of pieces) {
      records.push(...decoder.push(piece).map((each) => JSON.stringify(each.toJSON())));
    }
    decoder.end();
  } catch (thrown) {
    assert.ok(thrown instanceof ProtocolError, `${thrown}`);
    error = thrown.message;
  }
  return { records, error };
}

function split(bytes, places) {
  const cuts = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
  return [0, ...cuts].map((start, index) => bytes.slice(start, cuts[index] ?? bytes.length));
}

function countRecords(bytes) {
  let count = 0;
  for (let start = 0; start < bytes.length; count++) {
    start += HEADER_BYTES + bytes.readUInt32LE(start + 1);
  }
  return count;
}

const examples = [...recorded, Buffer.concat(recorded)].map((bytes) => [
  Uint8Array.from(bytes),
  [1, 5, 40, 41, 200],
]);

/** The driver has written the seeds, so each of their records is decoded. */
function checkSeeds() {
  for (const bytes of recorded) {
    const { records, error } = decode([bytes]);
    assert.equal(error, undefined);
    assert.equal(records.length, countRecords(bytes));
    assert.ok(!records.some((each) => /"type":"(?:unknown|protocol-error)"/.test(each)));
  }
}

/** About half of the inputs begin with a whole record. */
export const decoder = {
  examples,
  checkSeeds,
  leastAccepted: 0.2,
  property: (accepted) =>
    fc.property(stream, fc.array(fc.nat(), { maxLength: 10 }), (bytes, places) => {
      const whole = decode([bytes]);
      assert.deepEqual(decode(split(bytes, places)), whole);
      if (whole.records.length > 0) accepted();
    }),
};
