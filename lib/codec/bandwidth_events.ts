/** What connections have transferred. */

import { EventBase, defineType, formatAt, type RecordSource } from './record_view.js';

/** What one connection has transferred since the counters were last asked for. */
export class BandwidthEntry extends EventBase {
  declare private readonly source: RecordSource;
  declare private readonly offset: number;
  declare private readonly addressLength: number;
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;

  /** @internal */
  constructor(source: RecordSource, offset: number, addressLength: number, protocol: number) {
    super();
    this.source = source;
    this.offset = offset;
    this.addressLength = addressLength;
    this.protocol = protocol;
  }

  /** The version of both addresses. */
  get ipVersion(): 4 | 6 {
    return this.addressLength === 4 ? 4 : 6;
  }

  /** As text; IPv6 as in RFC 5952. */
  get localAddress(): string {
    return formatAt(this.source.bytes, this.offset, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get localAddressBytes(): Uint8Array {
    return this.source.bytes.slice(this.offset, this.offset + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get localPort(): number {
    return this.source.view.getUint16(this.offset + this.addressLength, true);
  }

  /** As text; IPv6 as in RFC 5952. */
  get remoteAddress(): string {
    return formatAt(this.source.bytes, this.offset + this.addressLength + 2, this.addressLength);
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get remoteAddressBytes(): Uint8Array {
    const start = this.offset + this.addressLength + 2;
    return this.source.bytes.slice(start, start + this.addressLength);
  }

  /** 0 for protocols without ports. */
  get remotePort(): number {
    return this.source.view.getUint16(this.offset + 2 * this.addressLength + 2, true);
  }

  /** Payload bytes sent. */
  get transmittedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + 2 * this.addressLength + 4, true);
  }

  /** Payload bytes received. */
  get receivedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + 2 * this.addressLength + 12, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      protocol: this.protocol,
      ipVersion: this.ipVersion,
      localAddress: this.localAddress,
      localPort: this.localPort,
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
      transmittedBytes: this.transmittedBytes,
      receivedBytes: this.receivedBytes,
    };
  }
}

/** Bandwidth counters that no `getBandwidth()` of this device waits for. */
export class BandwidthEvent extends EventBase {
  /** Tells the events apart. */
  declare readonly type: 'bandwidth';
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;
  /** The version of the entries' addresses. */
  declare readonly ipVersion: 4 | 6;
  /** One for each connection with traffic. */
  declare readonly entries: readonly BandwidthEntry[];

  /** @internal */
  constructor(protocol: number, ipVersion: 4 | 6, entries: readonly BandwidthEntry[]) {
    super();
    this.protocol = protocol;
    this.ipVersion = ipVersion;
    this.entries = entries;
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      type: this.type,
      protocol: this.protocol,
      ipVersion: this.ipVersion,
      entries: this.entries,
    };
  }
}
defineType(BandwidthEvent, 'bandwidth');
