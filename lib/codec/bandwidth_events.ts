/** How many bytes connections have transferred. */

import { EndpointsRecord } from './endpoints_record.js';
import { EventBase, defineType, type RecordSource } from './record_view.js';
import type { BandwidthEntryLayout } from './wire.js';

/** The bytes that one connection has transferred since the counters were last read. */
export class BandwidthEntry extends EndpointsRecord {
  declare protected readonly layout: BandwidthEntryLayout;
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;

  /** @internal */
  constructor(
    source: RecordSource,
    offset: number,
    layout: BandwidthEntryLayout,
    protocol: number,
  ) {
    super(source, offset, layout);
    this.protocol = protocol;
  }

  /** Payload bytes sent. */
  get transmittedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + this.layout.transmittedBytes, true);
  }

  /** Payload bytes received. */
  get receivedBytes(): bigint {
    return this.source.view.getBigUint64(this.offset + this.layout.receivedBytes, true);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    return {
      protocol: this.protocol,
      ...this.endpoints(),
      transmittedBytes: this.transmittedBytes,
      receivedBytes: this.receivedBytes,
    };
  }
}

/** Bandwidth counters that answer no pending `getBandwidth()` of this device. */
export class BandwidthEvent extends EventBase {
  /** Discriminates the events. */
  declare readonly type: 'bandwidth';
  /** The IANA number of the protocol above IP. */
  declare readonly protocol: number;
  /** The IP version of the entries' addresses. */
  declare readonly ipVersion: 4 | 6;
  /** One entry per connection with traffic. */
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
