/** The valid names of a driver's service, which is also the name of its device. @internal */

import { withDefault } from '../base/checks.js';

const DEFAULT_NAME = 'NetVerdict';

/** A single name in the device namespace: no path, no other namespace, no drive. */
const NAME = /^[A-Za-z0-9_-]{1,128}$/;

/** The names that Windows uses: consoles, ports, disks, volumes, pipes, and links to other namespaces. */
const TAKEN =
  /^(?:con|prn|aux|nul|com\d*|lpt\d*|physicaldrive\d*|harddisk.*|cdrom\d*|tape\d*|scsi\d*|volume.*|pipe|mailslot|global|globalroot|unc)$/i;

const PREFIX = '\\\\.\\';

export const deviceNameSchema = withDefault<string>((value, place) => {
  if (typeof value !== 'string' || !NAME.test(value)) {
    return place.report('must be a name of at most 128 letters, digits, _ and -');
  }
  return TAKEN.test(value) ? place.report('is a name that Windows uses; choose another') : value;
}, DEFAULT_NAME);

export const devicePathSchema = withDefault<string>((value, place) => {
  const name = nameOf(value);
  if (name === undefined || !NAME.test(name)) {
    return place.report(
      String.raw`must be \\.\ and the device's name: at most 128 letters, digits, _ and -`,
    );
  }
  return TAKEN.test(name)
    ? place.report(
        String.raw`is a device of Windows; give the driver's device: \\.\ and the name of its service`,
      )
    : PREFIX + name;
}, PREFIX + DEFAULT_NAME);

function nameOf(path: unknown): string | undefined {
  return typeof path === 'string' && path.startsWith(PREFIX)
    ? path.slice(PREFIX.length)
    : undefined;
}
