/** Which names a driver's service, and so its device, may have. @internal */

import { z } from 'zod';

const DEFAULT_NAME = 'NetVerdict';

/** One name in the device namespace: no other namespace, no way out of it, no drive. */
const NAME = /^[A-Za-z0-9_-]{1,128}$/;

/** What Windows has under such names: consoles, ports, disks and volumes, pipes, and ways to other namespaces. */
const TAKEN =
  /^(?:con|prn|aux|nul|com\d*|lpt\d*|physicaldrive\d*|harddisk.*|cdrom\d*|tape\d*|scsi\d*|volume.*|pipe|mailslot|global|globalroot|unc)$/i;

const PREFIX = '\\\\.\\';

const isFree = (name: string): boolean => !TAKEN.test(name);

export const deviceNameSchema = z
  .string()
  .regex(NAME, 'must be a name of at most 128 letters, digits, _ and -')
  .refine(isFree, 'is the name of something that Windows has; choose another')
  .default(DEFAULT_NAME);

export const devicePathSchema = z
  .string()
  .refine(
    (path) => path.startsWith(PREFIX) && NAME.test(path.slice(PREFIX.length)),
    String.raw`must be \\.\ and the device's name: at most 128 letters, digits, _ and -`,
  )
  .refine(
    (path) => isFree(path.slice(PREFIX.length)),
    String.raw`is a device of Windows; give the driver's: \\.\ and the name of its service`,
  )
  .default(PREFIX + DEFAULT_NAME);
