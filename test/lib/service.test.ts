import { describe, expect, it } from 'vitest';
import {
  AccessDeniedError,
  BusyError,
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
import { COPY, Scm, ScriptedService } from './support/scripted_service.js';

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
    [80, ServiceStateError, /copies.*Delete/],
    [183, ServiceStateError, /another driver.*another name/],
    [193, DriverRefusedError, /processor architecture.*win32-arm64/],
    [216, DriverRefusedError, /processor architecture.*win32-arm64/],
    [223, InvalidArgumentError, /too large/],
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
    [1307, DriverRefusedError, /administrators.*system32/],
    [1336, DriverRefusedError, /administrators.*system32/],
    [1450, DeviceError, /memory/],
    [4393, DriverRefusedError, /leads elsewhere.*Remove/],
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
    .each(['install', 'update', 'start', 'stop', 'remove', 'status'] as const)(
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

describe('an update', () => {
  const old = 'C:\\drivers\\netverdict.sys';
  const source = 'C:\\new.sys';
  const versions = { [old]: '0.1.9.0', [source]: '0.1.10.0' };
  const [running, stopped] = [{ state: Scm.Running }, { state: Scm.Stopped }];
  const ask = (): Promise<void> => Promise.resolve();

  it('stops the driver, and starts a copy of the newer one', async () => {
    const native = new ScriptedService({ versions, states: [running, stopped, running] });
    const control = new ServiceControl(native);
    expect(await control.update({ name: 'X', source, ask }, patient)).toBe('updated');
    expect(native.requests).toEqual([
      ['copyDriver', source, 'X'],
      ['stop', 'X'],
      ['setPath', 'X', COPY],
      ['start', 'X'],
      ['deleteDriver', old],
    ]);
  });

  it('leaves a stopped service stopped, once the new driver has answered', async () => {
    const native = new ScriptedService({ versions, states: [stopped, running, stopped] });
    const asked: number[] = [];
    const control = new ServiceControl(native);
    const update = control.update(
      { name: 'X', source, ask: () => Promise.resolve(void asked.push(native.requests.length)) },
      patient,
    );
    expect(await update).toBe('updated');
    expect(asked).toEqual([3]);
    expect(native.requests.slice(2)).toEqual([
      ['start', 'X'],
      ['stop', 'X'],
      ['deleteDriver', old],
    ]);
  });

  it.each([
    ['unchanged', '0.1.9.0'],
    ['unchanged', '0.1.9'],
    ['newer-kept', '0.1.8.99'],
  ])('changes nothing: %s for version %s', async (result, version) => {
    const native = new ScriptedService({ versions: { ...versions, [source]: version } });
    const control = new ServiceControl(native);
    expect(await control.update({ name: 'X', source, ask }, patient)).toBe(result);
    expect(native.requests).toEqual([]);
  });

  /** Answers for the old driver, and not for the new one. */
  const answerOnce = (error: Error) => {
    const answers = [Promise.resolve()];
    return (): Promise<void> => answers.pop() ?? Promise.reject(error);
  };

  it('puts the old driver back if the new one does not answer', async () => {
    const states = [running, stopped, running, running, stopped, running];
    const native = new ScriptedService({ versions, states });
    const silence = new TimeoutError('no answer');
    const request = { name: 'X', source, ask: answerOnce(silence) };
    const updated = new ServiceControl(native).update(request, patient);
    await expect(updated).rejects.toMatchObject({
      code: 'ERR_NETVERDICT_DRIVER_REFUSED',
      message:
        'Updating the service X: the new driver does not run, and the old one is back. no answer',
      cause: silence,
    });
    expect(native.requests.slice(4)).toEqual([
      ['stop', 'X'],
      ['setPath', 'X', old],
      ['start', 'X'],
      ['deleteDriver', COPY],
    ]);
  });

  it('puts the old driver back if it is cancelled meanwhile, and rejects with the reason', async () => {
    const states = [running, stopped, { state: Scm.StartPending }, running, stopped, running];
    const native = new ScriptedService({ versions, states });
    const controller = new AbortController();
    const reason = new Error('enough');
    native.onRequest = ([request]) => {
      if (request === 'start') controller.abort(reason);
    };
    const limit = { timeoutMs: 10_000, signal: controller.signal };
    const updated = new ServiceControl(native).update({ name: 'X', source, ask }, limit);
    await expect(updated).rejects.toBe(reason);
    expect(native.requests.slice(3)).toEqual([
      ['start', 'X'],
      ['stop', 'X'],
      ['setPath', 'X', old],
      ['start', 'X'],
      ['deleteDriver', COPY],
    ]);
  });

  it('keeps the file of the new driver if the old one cannot be put back', async () => {
    const startResults = [
      { code: 577, call: 'StartServiceW' },
      { code: 1450, call: 'StartServiceW' },
    ];
    const native = new ScriptedService({
      versions,
      states: [running, stopped, stopped],
      startResults,
    });
    const updated = new ServiceControl(native).update({ name: 'X', source, ask }, patient);
    await expect(updated).rejects.toThrow(
      /could not be put back\. Remove the service and install it again\..*signature.*memory/,
    );
    expect(native.requests.map(([request]) => request)).not.toContain('deleteDriver');
  });

  it('is refused before anything changes while a program has the device open', async () => {
    const native = new ScriptedService({ versions, states: [running] });
    const busy = (): Promise<void> => Promise.reject(new BusyError('open elsewhere'));
    const updated = new ServiceControl(native).update({ name: 'X', source, ask: busy }, patient);
    await expect(updated).rejects.toBeInstanceOf(BusyError);
    await expect(updated).rejects.toThrow(/Close that program, and update again/);
    expect(native.requests).toEqual([]);
  });

  it('replaces a driver that does not answer', async () => {
    const states = [running, stopped, running];
    const native = new ScriptedService({ versions, states });
    const answers = [Promise.resolve(), Promise.reject(new TimeoutError('no answer'))];
    const request = { name: 'X', source, ask: () => answers.pop() ?? Promise.resolve() };
    expect(await new ServiceControl(native).update(request, patient)).toBe('updated');
  });

  it('counts a client that opens the new driver at once as an answer', async () => {
    const states = [running, stopped, running];
    const native = new ScriptedService({ versions, states });
    const request = { name: 'X', source, ask: answerOnce(new BusyError('open elsewhere')) };
    expect(await new ServiceControl(native).update(request, patient)).toBe('updated');
  });

  it('puts the old driver back if the new one does not start', async () => {
    const native = new ScriptedService({
      versions,
      states: [running, stopped, stopped, running],
      startResults: [
        { code: 577, call: 'StartServiceW' },
        { code: 0, call: '' },
      ],
    });
    const updated = new ServiceControl(native).update({ name: 'X', source, ask }, patient);
    await expect(updated).rejects.toThrow(/the old one is back.*signature/);
    expect(native.requests.slice(4)).toEqual([
      ['setPath', 'X', old],
      ['start', 'X'],
      ['deleteDriver', COPY],
    ]);
  });

  it('is refused if the new file becomes an older one while it is copied', async () => {
    const native = new ScriptedService({ versions: { ...versions, [COPY]: '0.1.8.0' } });
    const updated = new ServiceControl(native).update({ name: 'X', source, ask }, patient);
    await expect(updated).rejects.toThrow(/changed while it was copied/);
    expect(native.requests).toEqual([
      ['copyDriver', source, 'X'],
      ['deleteDriver', COPY],
    ]);
  });

  it('changes nothing while the driver cannot be stopped', async () => {
    const stopResult = { code: 5, call: 'ControlService' };
    const native = new ScriptedService({ versions, states: [running], stopResult });
    const updated = new ServiceControl(native).update({ name: 'X', source, ask }, patient);
    await expect(updated).rejects.toBeInstanceOf(AccessDeniedError);
    expect(native.requests.map(([request]) => request)).toEqual([
      'copyDriver',
      'stop',
      'deleteDriver',
    ]);
  });

  it.each([
    ['what is not installed', { states: [NOT_INSTALLED] }, /not installed/],
    ['a file without a version', { versions: {} }, /not a file with a version/],
    [
      'the driver of an INF',
      { states: [{ state: Scm.Stopped, path: '\\SystemRoot\\System32\\DriverStore\\x.sys' }] },
      /pnputil/,
    ],
  ])('of %s is refused', async (_, script, message) => {
    const control = new ServiceControl(new ScriptedService({ versions, ...script }));
    const updated = control.update({ name: 'X', source, ask }, patient);
    await expect(updated).rejects.toThrow(message);
  });
});

describe('a driver service', () => {
  const source = 'C:\\x.sys';
  const config = { name: 'X', displayName: 'An X', source, startType: 'system' } as const;

  it('is installed with the given options, and with a copy of the driver', async () => {
    const native = new ScriptedService();
    expect(await new ServiceControl(native).install(config)).toBe(COPY);
    expect(native.requests).toEqual([
      ['copyDriver', source, 'X'],
      ['install', { name: 'X', displayName: 'An X', path: COPY, startType: 1 }],
    ]);
  });

  it.each([1307, 1336])(
    'is not installed if others than administrators may write the copy: error %i',
    async (code) => {
      const native = new ScriptedService({
        copyResult: { code, call: 'GetSecurityInfo' },
      });
      const installed = new ServiceControl(native).install(config);
      await expect(installed).rejects.toBeInstanceOf(DriverRefusedError);
      await expect(installed).rejects.toThrow(/others than administrators may write/);
      expect(native.requests).toEqual([['copyDriver', source, 'X']]);
    },
  );

  it('leaves no copy behind if it cannot be installed', async () => {
    const native = new ScriptedService({ installResult: { code: 1073, call: 'CreateServiceW' } });
    const installed = new ServiceControl(native).install(config);
    await expect(installed).rejects.toBeInstanceOf(ServiceStateError);
    expect(native.requests.at(-1)).toEqual(['deleteDriver', COPY]);
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
      ['deleteDriver', 'C:\\drivers\\netverdict.sys'],
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
      ['deleteDriver', 'C:\\drivers\\netverdict.sys'],
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
