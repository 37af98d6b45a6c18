import { describe, expect, it } from 'vitest';
import {
  AccessDeniedError,
  DeviceError,
  DriverRefusedError,
  InvalidArgumentError,
  NotFoundError,
  ServiceStateError,
  TimeoutError,
  UnsupportedError,
} from '../../lib/base/errors.js';
import { service, type InstallOptions, type WaitOptions } from '../../lib/service/service.js';
import { ServiceControl } from '../../lib/service/service_control.js';
import { serviceError } from '../../lib/service/service_errors.js';
import { Scm, ScriptedService } from './support/scripted_service.js';

const NOT_INSTALLED = 1060;
const patient = { timeoutMs: 10_000, signal: undefined };
const hasty = { timeoutMs: 1, signal: undefined };

function explain(code: number, testSigning?: boolean) {
  return serviceError({ code, call: 'StartServiceW' }, 'Starting X', () => testSigning);
}

describe("the service control manager's errors", () => {
  it.each([
    [2, NotFoundError, /file does not exist.*Check the path/],
    [3, NotFoundError, /file does not exist.*Check the path/],
    [5, AccessDeniedError, /administrator/],
    [87, InvalidArgumentError, /Check the name and the path/],
    [123, InvalidArgumentError, /name/],
    [126, DriverRefusedError, /Windows 10 version 1809/],
    [127, DriverRefusedError, /Windows 10 version 1809/],
    [183, ServiceStateError, /another driver.*another name/],
    [193, DriverRefusedError, /processor architecture.*win32-arm64/],
    [216, DriverRefusedError, /processor architecture.*win32-arm64/],
    [336, InvalidArgumentError, /folder.*netverdict\.sys/],
    [577, DriverRefusedError, /signature.*bcdedit \/set testsigning on/],
    [1051, ServiceStateError, /depend on it.*Stop those first/],
    [1052, ServiceStateError, /try again/],
    [1053, TimeoutError, /in time.*event log/],
    [1056, ServiceStateError, /already running/],
    [1058, ServiceStateError, /disabled.*sc config/],
    [1060, NotFoundError, /not installed.*netverdict driver install/],
    [1061, ServiceStateError, /try again/],
    [1062, ServiceStateError, /not running.*Start it/],
    [1068, ServiceStateError, /BFE.*Start it/],
    [1072, ServiceStateError, /marked for deletion.*Close programs/],
    [1073, ServiceStateError, /already installed.*remove it first/],
    [1075, ServiceStateError, /BFE.*Start it/],
    [1078, ServiceStateError, /Choose another/],
    [1114, DriverRefusedError, /Windows 10 version 1809/],
    [1275, DriverRefusedError, /policy.*CodeIntegrity/],
    [1450, DeviceError, /memory/],
    [4551, DriverRefusedError, /policy.*CodeIntegrity/],
    [31337, DeviceError, /net helpmsg 31337/],
  ])('%i has a class and a message that says what to do next', (code, Class, hint) => {
    const error = explain(code);
    expect(error).toBeInstanceOf(Class);
    expect(error.message).toMatch(/^Starting X: /);
    expect(error.message).toMatch(hint);
  });

  it('explain a refused signature with test-signing on, off or unknown', () => {
    expect(explain(577, false).message).toMatch(/Test-signing is off.*bcdedit/);
    expect(explain(577, true).message).toMatch(/Test-signing is on.*certificate/);
  });

  it('have the error number and the function in their cause', () => {
    expect(explain(1275).cause).toMatchObject({ errno: 1275, syscall: 'StartServiceW' });
  });
});

describe('service on a system other than Windows', () => {
  it
    .runIf(process.platform !== 'win32')
    .each(['install', 'start', 'stop', 'remove', 'status'] as const)(
    '%s is refused, and the error says what to do instead',
    async (name) => {
      const refused = service[name]();
      await expect(refused).rejects.toBeInstanceOf(UnsupportedError);
      await expect(refused).rejects.toThrow(/createSimulator\(\)/);
    },
  );
});

describe('the arguments of service', () => {
  const invalidInstalls: [string, InstallOptions, RegExp][] = [
    ['an empty name', { name: '' }, /service\.install: name/],
    ['a name with a backslash', { name: 'a\\b' }, /name: must be a name of at most 128 letters/],
    ['a name with a slash', { name: 'a/b' }, /name: must be a name of at most 128 letters/],
    ['a name with a line feed', { name: 'a\n' }, /name: must be a name of at most 128 letters/],
    ['a name with a space', { name: 'a b' }, /name: must be a name of at most 128 letters/],
    ['a name of 129 characters', { name: 'a'.repeat(129) }, /name: must be a name of at most 128/],
    ['the name of a Windows device', { name: 'PhysicalDrive0' }, /a name that Windows uses/],
    ['an empty path', { sysPath: '' }, /sysPath/],
    ['a path on another computer', { sysPath: '\\\\server\\share\\x.sys' }, /sysPath.*disk/],
    ['a device path', { sysPath: '\\\\.\\C:\\x.sys' }, /sysPath.*disk/],
    ['a verbatim path', { sysPath: '\\\\?\\C:\\x.sys' }, /sysPath.*disk/],
    ['a quoted path', { sysPath: '"C:\\x.sys"' }, /sysPath/],
    ['an empty display name', { displayName: '' }, /displayName/],
    ['a display name of 257 characters', { displayName: 'a'.repeat(257) }, /displayName/],
    ['an unknown start type', { startType: 'boot' as 'auto' }, /startType/],
    ['an unknown option', { path: 'C:\\x.sys' } as InstallOptions, /path/],
  ];
  it.each(invalidInstalls)('refuse %s', async (_, options, message) => {
    const refused = service.install(options);
    await expect(refused).rejects.toBeInstanceOf(InvalidArgumentError);
    await expect(refused).rejects.toThrow(message);
  });

  const invalidWaits: [string, WaitOptions][] = [
    ['a timeout of 0', { timeoutMs: 0 }],
    ['a timeout beyond the range of a timer', { timeoutMs: 2 ** 31 }],
    ['an invalid signal', { signal: {} as AbortSignal }],
  ];
  it.each(invalidWaits)('refuse %s', async (_, options) => {
    await expect(service.start(options)).rejects.toBeInstanceOf(InvalidArgumentError);
    await expect(service.stop(options)).rejects.toBeInstanceOf(InvalidArgumentError);
    await expect(service.remove(options)).rejects.toBeInstanceOf(InvalidArgumentError);
  });
});

describe('a driver service', () => {
  it('is installed with the given options', async () => {
    const native = new ScriptedService();
    const path = 'C:\\x.sys';
    await new ServiceControl(native).install({
      name: 'X',
      displayName: 'An X',
      path,
      startType: 'system',
    });
    expect(native.requests).toEqual([
      ['install', { name: 'X', displayName: 'An X', path, startType: 1 }],
    ]);
  });

  it('is reported with its file, its start type and its exit code', async () => {
    const states = [{ state: Scm.Running, startType: 2, exitCode: 0 }];
    expect(await new ServiceControl(new ScriptedService({ states })).status('X')).toEqual({
      name: 'X',
      state: 'running',
      startType: 'auto',
      path: 'C:\\drivers\\netverdict.sys',
      exitCode: 0,
    });
  });

  it('has the state not-installed if it does not exist', async () => {
    const control = new ServiceControl(new ScriptedService({ states: [NOT_INSTALLED] }));
    expect(await control.status('X')).toEqual({ name: 'X', state: 'not-installed' });
  });

  it('has started once it runs, not once the request succeeded', async () => {
    const native = new ScriptedService({
      states: [{ state: Scm.StartPending }, { state: Scm.StartPending }, { state: Scm.Running }],
    });
    const control = new ServiceControl(native);
    await control.start('X', patient);
    expect(await control.status('X')).toMatchObject({ state: 'running' });
  });

  it('rejects start() with the reason why it stopped while starting', async () => {
    const states = [{ state: Scm.StartPending }, { state: Scm.Stopped, exitCode: 1450 }];
    const started = new ServiceControl(new ScriptedService({ states })).start('X', patient);
    await expect(started).rejects.toMatchObject({ cause: { errno: 1450 } });
  });

  it('has stopped once its driver is unloaded', async () => {
    const states = [{ state: Scm.StopPending }, { state: Scm.Stopped }];
    const native = new ScriptedService({ states });
    await new ServiceControl(native).stop('X', patient);
    expect(native.requests).toEqual([['stop', 'X']]);
  });

  it('is stopped before it is removed', async () => {
    const states = [{ state: Scm.Running }, { state: Scm.Stopped }, NOT_INSTALLED];
    const native = new ScriptedService({ states });
    await new ServiceControl(native).remove('X', patient);
    expect(native.requests).toEqual([
      ['stop', 'X'],
      ['remove', 'X'],
    ]);
  });

  it('is removed even if it stops by itself first', async () => {
    const states = [{ state: Scm.Running }, { state: Scm.Stopped }, NOT_INSTALLED];
    const native = new ScriptedService({
      states,
      stopResult: { code: 1062, call: 'ControlService' },
    });
    await new ServiceControl(native).remove('X', patient);
    expect(native.requests).toEqual([
      ['stop', 'X'],
      ['remove', 'X'],
    ]);
  });

  it('is not removed if it cannot be stopped', async () => {
    const states = [{ state: Scm.Running }];
    const native = new ScriptedService({ states, stopResult: { code: 5, call: 'ControlService' } });
    const removed = new ServiceControl(native).remove('X', patient);
    await expect(removed).rejects.toBeInstanceOf(AccessDeniedError);
    expect(native.requests).toEqual([['stop', 'X']]);
  });

  it('is removed once its name is free', async () => {
    const states = [
      { state: Scm.Stopped },
      { state: Scm.Stopped },
      { state: Scm.Stopped },
      NOT_INSTALLED,
    ];
    const control = new ServiceControl(new ScriptedService({ states }));
    await control.remove('X', patient);
    expect(await control.status('X')).toMatchObject({ state: 'not-installed' });
  });

  it('rejects remove() with a timeout while it is in use', async () => {
    const removed = new ServiceControl(new ScriptedService()).remove('X', hasty);
    await expect(removed).rejects.toBeInstanceOf(TimeoutError);
    await expect(removed).rejects.toThrow(/marked for deletion.*within 1 ms/);
  });

  it('rejects start() with a timeout, even if Windows never answers', async () => {
    const started = new ServiceControl(new ScriptedService({ hangs: true })).start('X', hasty);
    await expect(started).rejects.toBeInstanceOf(TimeoutError);
  });

  it('is awaited until the signal is aborted', async () => {
    const controller = new AbortController();
    const states = [{ state: Scm.StopPending }];
    const stopped = new ServiceControl(new ScriptedService({ states })).stop('X', {
      ...patient,
      signal: controller.signal,
    });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(stopped).rejects.toBe(reason);
  });

  it('gets no request if the signal is already aborted', async () => {
    const native = new ScriptedService();
    const reason = new Error('no need');
    const limit = { ...patient, signal: AbortSignal.abort(reason) };
    await expect(new ServiceControl(native).start('X', limit)).rejects.toBe(reason);
    expect(native.requests).toEqual([]);
  });
});
