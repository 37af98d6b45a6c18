import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, UnsupportedError } from '../../lib/base/errors.js';
import { open } from '../../lib/device/open.js';

describe('open', () => {
  it('opens a device of the driver’s core in this process', async () => {
    await using device = await open({ backend: 'embedded' });
    expect(device.version().major).toBe(2);
    expect(await device.getLogs()).toEqual([]);
  });

  it.runIf(process.platform !== 'win32')(
    'says what to do where there is no Windows backend',
    async () => {
      await expect(open({ backend: 'windows' })).rejects.toBeInstanceOf(UnsupportedError);
      await expect(open({ backend: 'windows' })).rejects.toThrow(/backend: 'embedded'/);
    },
  );

  it('refuses invalid options', async () => {
    await expect(open({ readBuffers: -1 })).rejects.toBeInstanceOf(InvalidArgumentError);
  });

  it('rejects with the reason of a signal that is already aborted', async () => {
    const reason = new Error('no need');
    await expect(open({ backend: 'embedded', signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
  });

  it('opens a device that its signal closes', async () => {
    const controller = new AbortController();
    const device = await open({ backend: 'embedded', signal: controller.signal });
    const reason = new Error('enough');
    const next = device.events().next();
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
    await device.close();
  });

  it('opens independent devices', async () => {
    const devices = await Promise.all([
      open({ backend: 'embedded' }),
      open({ backend: 'embedded' }),
    ]);
    await devices[0].close();
    expect(await devices[1].getLogs()).toEqual([]);
    await devices[1].close();
  });
});
