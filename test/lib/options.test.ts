import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../lib/base/errors.js';
import { encodeDriverOptions } from '../../lib/codec/driver_options.js';
import { Verdict } from '../../lib/codec/verdicts.js';
import { resolveOptions, type OpenOptions } from '../../lib/device/options.js';

describe('the options of open()', () => {
  it('have the defaults of the protocol', () => {
    expect(resolveOptions({ backend: 'embedded' })).toEqual({
      backend: 'embedded',
      path: '\\\\.\\NetVerdict',
      signal: undefined,
      readBuffers: 4,
      readBufferSize: 65_536,
      highWaterMark: 1_048_576,
      driver: {
        failPolicy: 'open',
        pendingTimeoutMs: 0,
        timeoutVerdict: Verdict.PermanentAccept,
        logLevel: 'warning',
        payloadLimit: 0xffff_ffff,
        dnsPort: 53,
        tunnelPort: 717,
        splitTunnelPort: 719,
        maxQueuedBytes: 16 * 1024 * 1024,
        maxHeldPackets: 65_536,
        maxConnections: 1_048_576,
        loopback: 'permit',
        stallTimeoutMs: 5000,
      },
      given: [],
    });
  });

  it('choose the backend by the platform', () => {
    const expected = process.platform === 'win32' ? 'windows' : 'embedded';
    expect(resolveOptions({}).backend).toBe(expected);
  });

  it('block at the timeout by default when failing closed', () => {
    expect(resolveOptions({ failPolicy: 'closed' }).driver.timeoutVerdict).toBe(
      Verdict.PermanentBlock,
    );
    const chosen = resolveOptions({ failPolicy: 'closed', timeoutVerdict: Verdict.Drop });
    expect(chosen.driver.timeoutVerdict).toBe(Verdict.Drop);
  });

  it.each<[string, object, RegExp]>([
    ['an unknown option', { backed: 'embedded' }, /backed/],
    ['an unknown backend', { backend: 'linux' }, /backend/],
    ['no read buffers', { readBuffers: 0 }, /readBuffers/],
    ['a read buffer that is too small', { readBufferSize: 1023 }, /readBufferSize/],
    ['half a byte', { highWaterMark: 1.5 }, /highWaterMark/],
    ['an invalid signal', { signal: {} }, /signal: must be an AbortSignal/],
    ['an unknown fail policy', { failPolicy: 'ajar' }, /failPolicy/],
    ['a timeout verdict that decides nothing', { timeoutVerdict: 0 }, /timeoutVerdict/],
    ['a timeout verdict that redirects', { timeoutVerdict: 9 }, /timeoutVerdict/],
    ['an unknown log level', { logLevel: 'loud' }, /logLevel/],
    ['an unknown choice for loopback', { loopback: 'block' }, /loopback/],
    ['port 0', { dnsPort: 0 }, /dnsPort/],
    ['too small an event queue', { maxQueuedBytes: 65_535 }, /maxQueuedBytes/],
    ['too many held packets', { maxHeldPackets: 1_048_577 }, /maxHeldPackets/],
    ['too few connections', { maxConnections: 4095 }, /maxConnections/],
    ['too many connections', { maxConnections: 4_194_305 }, /maxConnections/],
    ['a number as text', { payloadLimit: '1' }, /payloadLimit/],
  ])('refuse %s, and name it', (_, options, message) => {
    expect(() => resolveOptions(options as OpenOptions)).toThrow(message);
    expect(() => resolveOptions(options as OpenOptions)).toThrow(InvalidArgumentError);
    expect(() => resolveOptions(options as OpenOptions)).toThrow(/^The options of open\(\): /);
  });

  it.each([
    'NetVerdict',
    '\\\\.\\',
    '\\\\?\\NetVerdict',
    '\\\\.\\C:',
    '\\\\.\\C:\\x',
    '\\\\.\\..\\NetVerdict',
    '\\\\.\\pipe\\x',
    '\\\\.\\GLOBALROOT\\Device\\NetVerdict',
    '\\\\server\\share',
    `\\\\.\\${'a'.repeat(129)}`,
  ])('refuse the path %s, which is not a device name', (path) => {
    expect(() => resolveOptions({ path })).toThrow(/path: must be .* and the device's name/);
  });

  it.each([
    ...['CON', 'prn', 'Aux', 'NUL', 'COM1', 'com', 'COM10', 'LPT1', 'PIPE', 'MailSlot'],
    ...['PhysicalDrive0', 'physicaldrive12', 'Harddisk0Partition1', 'HarddiskVolume1', 'CdRom0'],
    ...['Tape0', 'Scsi0', 'VolumeShadowCopy1', 'GLOBALROOT', 'Global', 'UNC'],
  ])('refuse the device name %s, which Windows uses', (name) => {
    expect(() => resolveOptions({ path: `\\\\.\\${name}` })).toThrow(
      /path: is a device of Windows/,
    );
  });

  it.each(['NetVerdict', 'Console', 'Comet1', 'Null', 'my_driver-2', 'a'.repeat(128)])(
    'accept the device name %s',
    (name) => {
      const path = `\\\\.\\${name}`;
      expect(resolveOptions({ path }).path).toBe(path);
    },
  );

  it('accept a signal of another realm', () => {
    const { signal } = new AbortController();
    const foreign = {
      aborted: false,
      reason: undefined,
      addEventListener: signal.addEventListener.bind(signal),
    } as unknown as AbortSignal;
    expect(resolveOptions({ signal: foreign }).signal).toBe(foreign);
  });

  it('encode their own size, so that a newer driver applies defaults to the rest', () => {
    const request = {
      ...resolveOptions({}).driver,
      dropStrayResets: false,
      askControlTraffic: false,
      connectionInfo: false,
      stallTimeoutMs: 0,
    };
    for (const [extension, length] of [
      [1, 32],
      [2, 40],
      [3, 40],
    ] as const) {
      const bytes = encodeDriverOptions(request, extension);
      expect(bytes).toHaveLength(length);
      expect(Buffer.from(bytes).readUInt32LE(0)).toBe(length);
    }
  });

  it('list the driver options that were given, even those with their default value', () => {
    const options: object = { failPolicy: 'open', dnsPort: undefined, readBuffers: 2 };
    expect(resolveOptions(options).given).toEqual(['failPolicy']);
  });
});
