/** Opening a device. */

import type { Device } from './device.js';
import { openEmbedded } from './embedded.js';
import { resolveOptions, type OpenOptions } from './options.js';
import { openWindows } from './windows.js';

/**
 * Opens the driver's device and tells it the driver options.
 *
 * The device keeps the process alive until it is closed, unless `unref()` is called.
 *
 * @throws {@link InvalidArgumentError} for an option that is not as it must be; {@link NotFoundError},
 *   {@link AccessDeniedError} or {@link BusyError} when the device cannot be had; {@link UnsupportedError} where there
 *   is no such backend; the signal's reason when it is aborted.
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
