/** The decoder of endpoints, for both IP versions. @internal */

import { formatIPv4, formatIPv6 } from './addresses.js';
import { EventBase, type RecordSource } from './record_view.js';
import type { EndpointsLayout } from './wire.js';

/**
 * A record with two endpoints, of either IP version.
 *
 * Fields are declared, not defined: only the constructor writes them, which makes an event three times as cheap.
 */
export abstract class EndpointsRecord extends EventBase {
  /** @internal */
  declare protected readonly source: RecordSource;
  /** @internal The offset in `source` from which `layout` counts. */
  declare protected readonly offset: number;
  /** @internal */
  declare protected readonly layout: EndpointsLayout;

  /** @internal */
  constructor(source: RecordSource, offset: number, layout: EndpointsLayout) {
    super();
    this.source = source;
    this.offset = offset;
    this.layout = layout;
  }

  /** The IP version of both addresses. */
  get ipVersion(): 4 | 6 {
    return this.layout.ipVersion;
  }

  /** This computer's address as text; IPv6 as RFC 5952 recommends. */
  get localAddress(): string {
    return this.addressAt(this.offset + this.layout.localAddress);
  }

  /** A copy of this computer's address: 4 or 16 bytes in network order. */
  get localAddressBytes(): Uint8Array {
    return this.addressBytesAt(this.offset + this.layout.localAddress);
  }

  /** This computer's port; 0 for protocols without ports. */
  get localPort(): number {
    return this.source.view.getUint16(this.offset + this.layout.localPort, true);
  }

  /** The other end's address as text; IPv6 as RFC 5952 recommends. */
  get remoteAddress(): string {
    return this.addressAt(this.offset + this.layout.remoteAddress);
  }

  /** A copy of the other end's address: 4 or 16 bytes in network order. */
  get remoteAddressBytes(): Uint8Array {
    return this.addressBytesAt(this.offset + this.layout.remoteAddress);
  }

  /** The other end's port; 0 for protocols without ports. */
  get remotePort(): number {
    return this.source.view.getUint16(this.offset + this.layout.remotePort, true);
  }

  /** @internal */
  protected endpoints(): Record<string, unknown> {
    return {
      ipVersion: this.ipVersion,
      localAddress: this.localAddress,
      localPort: this.localPort,
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
    };
  }

  private addressAt(start: number): string {
    const { bytes } = this.source;
    return this.layout.ipVersion === 4 ? formatIPv4(bytes, start) : formatIPv6(bytes, start);
  }

  private addressBytesAt(start: number): Uint8Array {
    return this.source.bytes.slice(start, start + this.layout.addressLength);
  }
}
