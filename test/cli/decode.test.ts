import { afterAll, describe, expect, it } from 'vitest';
import { CaptureFolder } from './captures.js';
import { parseJsonLines, runCli, startCli } from './run_cli.js';

const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

function record(type: number, ...body: Uint8Array[]): Buffer {
  const bytes = Buffer.concat(body);
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const identityV4 = [
  u64(4242n),
  Buffer.of(0, 6),
  Buffer.of(192, 0, 2, 1),
  Buffer.of(198, 51, 100, 7),
  u16(40_000),
  u16(443),
];
const connection = record(
  1,
  u64(2n ** 63n + 1n),
  ...identityV4,
  Buffer.of(4),
  u32(3),
  Buffer.of(1, 2, 3),
);
const connectionEnd = record(3, ...identityV4);
const logLine = record(0, Buffer.of(4), Buffer.from('look \x1b[31mhere'));
const bandwidth = record(
  5,
  Buffer.of(17),
  u32(1),
  ...[Buffer.of(192, 0, 2, 1), u16(53), Buffer.of(198, 51, 100, 7), u16(5353)],
  ...[u64(2n ** 60n), u64(7n)],
);
const lost = record(64, u64(12n), Buffer.of(1));
const unknown = record(200, Buffer.of(9, 9));
const stream = Buffer.concat([connection, logLine, bandwidth, lost, unknown, connectionEnd]);

describe('netverdict decode', () => {
  it('prints one JSON object per line, with ids and counters as decimal text and without payload', async () => {
    const result = await runCli('decode', folder.write('stream.bin', stream), '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const lines = parseJsonLines(result.stdout);
    expect(lines.map((line) => line.type)).toEqual([
      'connection',
      'log',
      'bandwidth',
      'lost',
      'unknown',
      'connection-end',
    ]);
    expect(lines[0]).toEqual({
      type: 'connection',
      id: '9223372036854775809',
      processId: 4242,
      direction: 'outbound',
      protocol: 6,
      protocolName: 'tcp',
      ipVersion: 4,
      localAddress: '192.0.2.1',
      localPort: 40_000,
      remoteAddress: '198.51.100.7',
      remotePort: 443,
      payloadLayer: 4,
    });
    expect(lines[2]).toMatchObject({
      entries: [{ transmittedBytes: '1152921504606846976', receivedBytes: '7' }],
    });
    expect(lines[3]).toMatchObject({ count: '12', reason: 'event-queue-full' });
  });

  it('prints the payload as base64 on request', async () => {
    const result = await runCli(
      'decode',
      folder.write('payload.bin', stream),
      '--json',
      '--payload',
    );
    expect(parseJsonLines(result.stdout)[0]).toMatchObject({ payload: 'AQID' });
  });

  it('prints one line per record for people, without control sequences from the file', async () => {
    const result = await runCli('decode', folder.write('text.bin', stream));
    expect(result.code).toBe(0);
    expect(result.stdout.trim().split('\n')).toHaveLength(6);
    expect(result.stdout).toMatch(/outbound.*tcp.*4242.*192\.0\.2\.1:40000.*198\.51\.100\.7:443/);
    expect(result.stdout).not.toContain('\x1b');
  });

  it.each([[[]], [['--json']]])(
    'prints no unprintable character of a log or a path: %j',
    async (options) => {
      const evil = 'a\x1b\x7f\u009b\u202e\u2066\u2028b';
      const file = folder.write(
        `evil${options.join('')}.bin`,
        Buffer.concat([
          record(0, Buffer.of(4), Buffer.from(evil)),
          record(66, u64(4242n), Buffer.from(evil, 'utf16le')),
          connection,
        ]),
      );
      const { stdout } = await runCli('decode', file, ...options);
      expect(stdout).toMatch(/a.+b/);
      expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      if (options.length > 0) {
        expect(parseJsonLines(stdout)[2]).toMatchObject({ processPath: evil });
      }
    },
  );

  it('reads standard input', async () => {
    const child = startCli('decode', '-', '--json');
    child.stdin.end(stream);
    let text = '';
    for await (const chunk of child.stdout) text += String(chunk);
    expect(parseJsonLines(text)).toHaveLength(6);
  });

  it('accepts an empty recording as one without records', async () => {
    const result = await runCli('decode', folder.write('empty.bin', ''));
    expect(result).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('prints the complete records of a truncated recording, and exits with 2', async () => {
    const file = folder.write('truncated.bin', stream.subarray(0, stream.length - 1));
    const result = await runCli('decode', file, '--json');
    expect(result.code).toBe(2);
    expect(parseJsonLines(result.stdout)).toHaveLength(5);
    expect(result.stderr).toMatch(/truncated\.bin.*ends within a record/);
  });

  it('prints the records around a malformed one, and exits with 2', async () => {
    const malformed = record(3, Buffer.of(1, 2, 3));
    const file = folder.write('malformed.bin', Buffer.concat([lost, malformed, connectionEnd]));
    const result = await runCli('decode', file, '--json');
    expect(result.code).toBe(2);
    expect(parseJsonLines(result.stdout).map((line) => line.type)).toEqual([
      'lost',
      'protocol-error',
      'connection-end',
    ]);
    expect(result.stderr).toMatch(/1 malformed record/);
  });

  it('stops at an impossible record length, and exits with 2', async () => {
    const file = folder.write('corrupt.bin', Buffer.concat([lost, Buffer.alloc(64, 0xff)]));
    const result = await runCli('decode', file, '--json');
    expect(result.code).toBe(2);
    expect(parseJsonLines(result.stdout)).toHaveLength(1);
    expect(result.stderr).toMatch(/corrupt\.bin.*corrupt/);
  });
});
