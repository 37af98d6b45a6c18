/** Opens a device on the chosen backend. */

import type { Device } from './device.js';
import { openEmbedded } from './embedded.js';
import { resolveOptions, type OpenOptions } from './options.js';
import { openWindows } from './windows.js';

/**
 * Opens the driver's device and sets the driver options.
 *
 * The open device keeps the process alive, unless you call its `unref()`.
 *
 * An aborted signal rejects with its reason.
 *
 * @throws {@link InvalidArgumentError} for an invalid option.
 * @throws {@link NotFoundError} when there is no such device.
 * @throws {@link AccessDeniedError} without administrator rights.
 * @throws {@link BusyError} when another client has the device open.
 * @throws {@link UnsupportedError} when this platform lacks the backend, or the driver does not support an option.
 * @example
 * ```ts
 * await using device = await open({ backend: 'embedded' });
 * for await (const event of device) {
 *   if (event.type === 'connection') {
 *     device.setVerdict(event.id, event.remotePort === 23 ? Verdict.PermanentBlock : Verdict.PermanentAccept);
 *   }
 * }
 * ```
 */
export async function open(options: OpenOptions = {}): Promise<Device> {
  const resolved = resolveOptions(options);
  resolved.signal?.throwIfAborted();
  if (resolved.backend === 'windows') {
    return openWindows(resolved);
  }
  return openEmbedded(resolved);
}
