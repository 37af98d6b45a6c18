/** The valid names of a driver's service, which is also the name of its device. @internal */

import { z } from 'zod';

const DEFAULT_NAME = 'NetVerdict';

/** A single name in the device namespace: no path, no other namespace, no drive. */
const NAME = /^[A-Za-z0-9_-]{1,128}$/;

/** The names that Windows uses: consoles, ports, disks, volumes, pipes, and links to other namespaces. */
const TAKEN =
  /^(?:con|prn|aux|nul|com\d*|lpt\d*|physicaldrive\d*|harddisk.*|cdrom\d*|tape\d*|scsi\d*|volume.*|pipe|mailslot|global|globalroot|unc)$/i;

const PREFIX = '\\\\.\\';

const isFree = (name: string): boolean => !TAKEN.test(name);

export const deviceNameSchema = z
  .string()
  .regex(NAME, 'must be a name of at most 128 letters, digits, _ and -')
  .refine(isFree, 'is a name that Windows uses; choose another')
  .default(DEFAULT_NAME);

export const devicePathSchema = z
  .string()
  .refine(
    (path) => path.startsWith(PREFIX) && NAME.test(path.slice(PREFIX.length)),
    String.raw`must be \\.\ and the device's name: at most 128 letters, digits, _ and -`,
  )
  .refine(
    (path) => isFree(path.slice(PREFIX.length)),
    String.raw`is a device of Windows; give the driver's device: \\.\ and the name of its service`,
  )
  .default(PREFIX + DEFAULT_NAME);
