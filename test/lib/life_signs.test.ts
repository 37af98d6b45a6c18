import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Ioctl } from '../../lib/codec/wire.js';
import { LifeSigns, type Pace } from '../../lib/device/life_signs.js';
import { connection, log, timeoutOf } from './support/records.js';
import { scriptedDevice } from './support/scripted_device.js';

/** A client, whose state a test changes. */
function living(timeoutMs: number) {
  const client = { pace: 'moving' as Pace, hasUnread: false, waiting: 1n, stalls: 0n, told: 0 };
  let onTold = (): void => undefined;
  const signs = new LifeSigns(timeoutMs, {
    pace: () => client.pace,
    hasUnread: () => client.hasUnread,
    tell: () => {
      client.told += 1;
      onTold();
    },
    ask: () => client,
  });
  onTestFinished(() => {
    signs.stop();
  });
  const tells = (count: number): Promise<void> =>
    new Promise((resolve) => {
      onTold = () => {
        if (client.told >= count) resolve();
      };
    });
  return { client, signs, tells };
}

async function warningOf(action: () => void): Promise<string> {
  const warned = once(process, 'warning');
  action();
  const [warning] = (await warned) as [Error & { code?: string }];
  expect(warning.code).toBe('NETVERDICT_CLIENT_STALLED');
  return warning.message;
}

describe('a sign of life', () => {
  it('is given while a question waits and an iterator moves', () => {
    const { client, signs } = living(1000);
    expect(signs.look()).toBe(250);
    expect(client.told).toBe(1);
  });

  it.each(['waiting', 'ended', 'none'] as const)('is not given while the pace is %s', (pace) => {
    const { client, signs } = living(1000);
    client.pace = pace;
    expect(signs.look()).toBeUndefined();
    expect(client.told).toBe(0);
  });

  it('is not given while nothing waits', () => {
    const { client, signs } = living(1000);
    client.waiting = 0n;
    expect(signs.look()).toBeUndefined();
    expect(client.told).toBe(0);
  });

  it('is repeated by itself once there is something to read', async () => {
    const { signs, tells } = living(20);
    const told = tells(3);
    signs.onReadable();
    await told;
  });

  it('ends a stall, also while nothing waits', () => {
    const { client, signs } = living(1000);
    client.stalls = 1n;
    client.waiting = 0n;
    signs.look();
    expect(client.told).toBe(1);
    signs.look();
    expect(client.told).toBe(1);
  });

  it('follows a report of the stall at once, and once', async () => {
    const { client, signs, tells } = living(1_000_000);
    const told = tells(1);
    client.waiting = 0n;
    signs.onStall();
    signs.onStall();
    await told;
    await new Promise((resolve) => setImmediate(resolve));
    expect(client.told).toBe(1);
  });

  it('of a stalled client waits until an iterator moves again', () => {
    const { client, signs } = living(1000);
    client.stalls = 1n;
    client.pace = 'waiting';
    signs.look();
    expect(client.told).toBe(0);
    client.pace = 'moving';
    signs.look();
    expect(client.told).toBe(1);
  });

  it('is not given any more after the end', () => {
    const { client, signs } = living(1000);
    signs.stop();
    signs.look();
    expect(client.told).toBe(0);
  });
});

describe('the warning of a stall', () => {
  it.each([
    ['waiting', /nobody asks the iterator for the next event/],
    ['ended', /the loop over the events has ended/],
    ['none', /nothing iterates the events/],
    ['moving', /too slow/],
  ] as const)('names the cause: %s', async (pace, cause) => {
    const { client, signs } = living(1000);
    client.pace = pace;
    client.stalls = 1n;
    expect(await warningOf(() => signs.look())).toMatch(cause);
  });

  it('comes once for each stall, not for those before', async () => {
    const { client, signs } = living(1000);
    client.stalls = 1n;
    const warnings: string[] = [];
    const note = ({ message }: Error): void => void warnings.push(message);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    signs.look();
    signs.look();
    client.stalls = 2n;
    signs.look();
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).toHaveLength(2);
  });
});

describe('the pace of a device', () => {
  /** A device whose driver reports a stall, so that the next look gives a sign of life if the pace is moving. */
  const stall = timeoutOf(1n, 3, 1);
  const start = () => {
    const script = { protocolExtension: 2, featureBits: 0x21fn };
    const scripted = scriptedDevice(script, { stallTimeoutMs: 1_000_000 });
    onTestFinished(() => scripted.device.close());
    const signsGiven = async (): Promise<number> => {
      await new Promise((resolve) => setImmediate(resolve));
      return scripted.native.controls.filter(({ code }) => code === Ioctl.Keepalive).length;
    };
    return { ...scripted, signsGiven };
  };

  it('is moving while an iterator waits for an event', async () => {
    const { device, native, signsGiven } = start();
    const events = device.events();
    const first = events.next();
    native.feed(stall);
    await first;
    void events.next();
    expect(await signsGiven()).toBe(1);
  });

  it('is waiting while the loop does not ask for the next event', async () => {
    const { device, native, signsGiven } = start();
    const events = device.events();
    const first = events.next();
    native.feed(stall, connection({ id: 2n }));
    await first;
    expect(await signsGiven()).toBe(1); // it has moved
    device.lookAlive();
    native.feed(stall);
    const logs = device.events({ types: ['log'] }).next(); // which decodes the report
    native.feed(log(3, 'x'));
    await logs;
    expect(await signsGiven()).toBe(1);
  });

  it('is not that of iterators that give no questions', async () => {
    const { device, native, signsGiven } = start();
    const logs = device.events({ types: ['log'] });
    const first = logs.next();
    native.feed(stall, log(3, 'x'));
    await first;
    void logs.next();
    expect(await signsGiven()).toBe(0);
  });
});
