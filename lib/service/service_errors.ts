/** Translates Win32 errors of the service control manager into this package's errors. @internal */

import type { NativeServiceResult } from '../addon/native.cjs';
import {
  AccessDeniedError,
  DeviceError,
  DriverRefusedError,
  InvalidArgumentError,
  NotFoundError,
  ServiceStateError,
  TimeoutError,
  type NetVerdictError,
} from '../base/errors.js';

/** The Win32 errors that have an explanation of their own. */
export const Win32 = {
  Success: 0,
  FileNotFound: 2,
  PathNotFound: 3,
  AccessDenied: 5,
  FileExists: 80,
  InvalidParameter: 87,
  InvalidName: 123,
  ModuleNotFound: 126,
  ProcedureNotFound: 127,
  AlreadyExists: 183,
  BadExecutable: 193,
  MachineTypeMismatch: 216,
  FileTooLarge: 223,
  DirectoryNotSupported: 336,
  InvalidImageHash: 577,
  DependentServicesRunning: 1051,
  InvalidServiceControl: 1052,
  ServiceRequestTimeout: 1053,
  ServiceAlreadyRunning: 1056,
  ServiceDisabled: 1058,
  ServiceDoesNotExist: 1060,
  ServiceCannotAcceptControl: 1061,
  ServiceNotActive: 1062,
  ServiceDependencyFailed: 1068,
  ServiceMarkedForDelete: 1072,
  ServiceExists: 1073,
  ServiceDependencyDeleted: 1075,
  DuplicateServiceName: 1078,
  DllInitializationFailed: 1114,
  DriverBlocked: 1275,
  InvalidOwner: 1307,
  InvalidAcl: 1336,
  NoSystemResources: 1450,
  InvalidReparseTag: 4393,
  BlockedByAppControl: 4551,
} as const;

type ErrorClass = new (message: string, options?: ErrorOptions) => NetVerdictError;

const WRONG_ARCHITECTURE: readonly [ErrorClass, string] = [
  DriverRefusedError,
  'the file is not a driver for this processor architecture. Install the netverdict.sys of this computer: ' +
    'win32-x64 or win32-arm64, even where this program runs emulated.',
];
const BLOCKED_BY_POLICY: readonly [ErrorClass, string] = [
  DriverRefusedError,
  "a policy of this computer blocks the driver: App Control, a vendor's block list, or Memory Integrity. The event log " +
    'Microsoft-Windows-CodeIntegrity/Operational names it. Allow the driver in the policy, or ask an administrator.',
];
const NO_SUCH_FILE: readonly [ErrorClass, string] = [
  NotFoundError,
  "the driver's file does not exist. Check the path. If the folder of an installed service has moved, remove the service " +
    "and install it again ('netverdict driver remove', 'netverdict driver install').",
];
const OTHERS_MAY_WRITE: readonly [ErrorClass, string] = [
  DriverRefusedError,
  'others than administrators may write in system32\\drivers\\netverdict, so they could exchange the driver. Find out ' +
    'who changed its owner or its access list, delete the folder, and install the driver again.',
];
const MISSING_IMPORT: readonly [ErrorClass, string] = [
  DriverRefusedError,
  'this Windows lacks a module or function that the driver needs. It needs Windows 10 version 1809 or later.',
];
const MISSING_DEPENDENCY: readonly [ErrorClass, string] = [
  ServiceStateError,
  "a service that the driver needs does not run: the Base Filtering Engine (BFE) or Tcpip. Start it: 'sc start bfe'.",
];
const BUSY_CONTROL: readonly [ErrorClass, string] = [
  ServiceStateError,
  'the service accepts no request while it starts or stops. Check its status, and try again.',
];

/** What each error means, and what to do next. */
const EXPLANATIONS: Readonly<Record<number, readonly [ErrorClass, string]>> = {
  [Win32.FileNotFound]: NO_SUCH_FILE,
  [Win32.PathNotFound]: NO_SUCH_FILE,
  [Win32.AccessDenied]: [
    AccessDeniedError,
    'access denied. Only administrators may do this: run it from an elevated prompt ("Run as administrator").',
  ],
  [Win32.FileExists]: [
    ServiceStateError,
    'too many copies of earlier drivers are left. Delete those in system32\\drivers\\netverdict that no service uses.',
  ],
  [Win32.InvalidParameter]: [
    InvalidArgumentError,
    'the service control manager does not accept a value. Check the name and the path.',
  ],
  [Win32.InvalidName]: [
    InvalidArgumentError,
    'the service control manager does not accept this name. Use letters and digits.',
  ],
  [Win32.ModuleNotFound]: MISSING_IMPORT,
  [Win32.ProcedureNotFound]: MISSING_IMPORT,
  [Win32.AlreadyExists]: [
    ServiceStateError,
    'another driver has a device of this name. Stop that driver, or install under another name.',
  ],
  [Win32.BadExecutable]: WRONG_ARCHITECTURE,
  [Win32.MachineTypeMismatch]: WRONG_ARCHITECTURE,
  [Win32.DirectoryNotSupported]: [
    InvalidArgumentError,
    "the path is a folder. Give the path of the driver's file in it: …\\netverdict.sys.",
  ],
  [Win32.InvalidImageHash]: [DriverRefusedError, "Windows refuses the driver's signature."],
  [Win32.DependentServicesRunning]: [
    ServiceStateError,
    'services that depend on it are running. Stop those first.',
  ],
  [Win32.InvalidServiceControl]: BUSY_CONTROL,
  [Win32.ServiceRequestTimeout]: [
    TimeoutError,
    'the service did not answer in time. Check its status, and read the System event log.',
  ],
  [Win32.ServiceAlreadyRunning]: [
    ServiceStateError,
    'the service is already running. To restart it, stop it first.',
  ],
  [Win32.ServiceDisabled]: [
    ServiceStateError,
    "the service is disabled. Remove it and install it again, or enable it with 'sc config <name> start= demand'.",
  ],
  [Win32.ServiceDoesNotExist]: [
    NotFoundError,
    "the service is not installed. Install it first: 'netverdict driver install', or service.install().",
  ],
  [Win32.ServiceCannotAcceptControl]: BUSY_CONTROL,
  [Win32.ServiceNotActive]: [ServiceStateError, 'the service is not running. Start it to use it.'],
  [Win32.ServiceDependencyFailed]: MISSING_DEPENDENCY,
  [Win32.ServiceDependencyDeleted]: MISSING_DEPENDENCY,
  [Win32.ServiceMarkedForDelete]: [
    ServiceStateError,
    'the service is marked for deletion until its last user closes it. Close programs that have the device open, and ' +
      'services.msc, or restart Windows; then try again.',
  ],
  [Win32.ServiceExists]: [
    ServiceStateError,
    'a service of this name is already installed. Start it, or remove it first, or choose another name.',
  ],
  [Win32.DuplicateServiceName]: [
    ServiceStateError,
    'another service has this name or display name. Choose another.',
  ],
  [Win32.DllInitializationFailed]: MISSING_IMPORT,
  [Win32.DriverBlocked]: BLOCKED_BY_POLICY,
  [Win32.InvalidOwner]: OTHERS_MAY_WRITE,
  [Win32.InvalidAcl]: OTHERS_MAY_WRITE,
  [Win32.FileTooLarge]: [
    InvalidArgumentError,
    'the file is too large for a driver. Check the path.',
  ],
  [Win32.NoSystemResources]: [
    DeviceError,
    'Windows has too little memory for the driver. Close programs, and try again.',
  ],
  [Win32.InvalidReparseTag]: [
    DriverRefusedError,
    'system32\\drivers\\netverdict is no folder, or leads elsewhere. Remove it, and try again.',
  ],
  [Win32.BlockedByAppControl]: BLOCKED_BY_POLICY,
};

const TEST_SIGNING_HINTS = {
  on: "Test-signing is on, so the file is unsigned, altered, or signed by a certificate that this computer does not trust: sign it, and install the certificate into the computer's Root and TrustedPublisher stores.",
  off: "Test-signing is off, so only a driver that Microsoft has signed loads. For a test-signed one: 'bcdedit /set testsigning on' as administrator, with Secure Boot off, and restart.",
  unknown:
    "Use a driver that Microsoft has signed; for a test-signed one: 'bcdedit /set testsigning on' as administrator, with Secure Boot off, and restart.",
} as const;

function testSigningHint(isOn: boolean | undefined): string {
  if (isOn === undefined) return TEST_SIGNING_HINTS.unknown;
  return isOn ? TEST_SIGNING_HINTS.on : TEST_SIGNING_HINTS.off;
}

/**
 * Makes the error of a failed request. Its cause has the Win32 error as `errno` and the function as `syscall`.
 *
 * @param what What was tried, such as `Starting the service NetVerdict`.
 * @param isTestSigningOn Called only when Windows refused the signature.
 */
export function serviceError(
  { code, call }: NativeServiceResult,
  what: string,
  isTestSigningOn: () => boolean | undefined = () => undefined,
): NetVerdictError {
  const cause = Object.assign(new Error(`${call} failed with Win32 error ${code}`), {
    errno: code,
    syscall: call,
  });
  const [ErrorClass, explanation] = EXPLANATIONS[code] ?? [
    DeviceError,
    `Windows failed with error ${code}. 'net helpmsg ${code}' explains it; the System event log may say more.`,
  ];
  const hint = code === Win32.InvalidImageHash ? ` ${testSigningHint(isTestSigningOn())}` : '';
  return new ErrorClass(`${what}: ${explanation}${hint}`, { cause });
}
