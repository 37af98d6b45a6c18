/** The driver's connections at one moment: the request GetConnections and its reply. */

import { ProtocolError } from '../base/errors.js';
import { ConnectionRecord } from './connection_events.js';
import type { RecordSource } from './record_view.js';
import type { Verdict } from './verdicts.js';
import {
  ConnectionEntryFlag,
  ConnectionEntryLifeLayout,
  ConnectionLayout,
  ConnectionsLayout,
  GetConnectionsLayout,
  InfoType,
  readNumber,
  readTime,
} from './wire.js';

/** A connection that the driver remembers, as it was when {@link Device.connections} read it. */
export class ConnectionSnapshot extends ConnectionRecord {
  declare private readonly life: number;

  /** @internal `life`: where the fields behind those of an end record begin. */
  constructor(source: RecordSource, offset: number, layout: ConnectionLayout, life: number) {
    super(source, offset, layout);
    this.life = life;
  }

  /** The id of the connection event that waits for its verdict; undefined if none waits. */
  get id(): bigint | undefined {
    const id = this.source.view.getBigUint64(this.life + ConnectionEntryLifeLayout.id, true);
    return id === 0n ? undefined : id;
  }

  /** When the process started, in milliseconds since the epoch; undefined if the driver does not know it. */
  get processStart(): number | undefined {
    return readTime(this.source.view, this.life + ConnectionEntryLifeLayout.processStart);
  }

  /** When the connection started, in milliseconds since the epoch. */
  get startTime(): number | undefined {
    return readTime(this.source.view, this.life + ConnectionEntryLifeLayout.startTime);
  }

  /** How long no packet came, in milliseconds. */
  get idleMs(): number {
    return readNumber(this.source.view, this.life + ConnectionEntryLifeLayout.idleMs);
  }

  /** The number of bytes that this computer has sent since the start. `getBandwidth()` does not reset it. */
  get transmitted(): bigint {
    return this.source.view.getBigUint64(this.life + ConnectionEntryLifeLayout.transmitted, true);
  }

  /** The number of bytes that this computer has received since the start. */
  get received(): bigint {
    return this.source.view.getBigUint64(this.life + ConnectionEntryLifeLayout.received, true);
  }

  /** The connection's verdict; `Verdict.Undecided` while it has none. */
  get verdict(): Verdict {
    return this.source.view.getUint8(this.life + ConnectionEntryLifeLayout.verdict) as Verdict;
  }

  /** Whether the client was asked about this connection. */
  get reported(): boolean {
    return this.has(ConnectionEntryFlag.Reported);
  }

  /** Whether the connection has ended. The driver remembers it for another minute. */
  get ended(): boolean {
    return this.has(ConnectionEntryFlag.Ended);
  }

  /** Whether a question about it waits for its verdict. */
  get waiting(): boolean {
    return this.has(ConnectionEntryFlag.Waiting);
  }

  /** @internal */
  fields(): Record<string, unknown> {
    const { id, processStart, startTime, idleMs, transmitted, received } = this;
    const { verdict, reported, ended, waiting } = this;
    return {
      ...this.identity(),
      id,
      processStart,
      startTime,
      idleMs,
      transmitted,
      received,
      verdict,
      reported,
      ended,
      waiting,
    };
  }

  private has(flag: number): boolean {
    return (this.source.view.getUint8(this.life + ConnectionEntryLifeLayout.flags) & flag) !== 0;
  }
}

/** @internal A part of the driver's connections. */
export interface ConnectionsReply {
  /** Where the next part begins; 0 if this was the last one. */
  readonly nextCursor: bigint;
  readonly connections: readonly ConnectionSnapshot[];
}

/** @internal The request for the connections from a cursor on; 0 for the first. */
export function encodeGetConnections(cursor: bigint): Uint8Array {
  const bytes = new Uint8Array(GetConnectionsLayout.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(GetConnectionsLayout.size, GetConnectionsLayout.byteLength, true);
  view.setBigUint64(GetConnectionsLayout.cursor, cursor, true);
  return bytes;
}

/** @internal */
export function decodeConnections(source: RecordSource): ConnectionsReply {
  const { bytes, view } = source;
  if (bytes.length < ConnectionsLayout.byteLength) {
    throw cutOff();
  }
  const count = view.getUint32(ConnectionsLayout.count, true);
  const connections: ConnectionSnapshot[] = [];
  let offset = ConnectionsLayout.byteLength;
  for (let index = 0; index < count; index++) {
    const layout = entryLayout(source, offset);
    const start = offset + 1;
    const life = start + layout.payloadLayer - layout.processId;
    offset = life + ConnectionEntryLifeLayout.byteLength;
    if (offset > bytes.length) {
      throw cutOff();
    }
    connections.push(new ConnectionSnapshot(source, start - layout.processId, layout, life));
  }
  return { nextCursor: view.getBigUint64(ConnectionsLayout.nextCursor, true), connections };
}

function entryLayout({ bytes, view }: RecordSource, offset: number): ConnectionLayout {
  const type = offset < bytes.length ? view.getUint8(offset) : undefined;
  switch (type) {
    case InfoType.ConnectionEndV4:
      return ConnectionLayout.v4;
    case InfoType.ConnectionEndV6:
      return ConnectionLayout.v6;
    default:
      throw cutOff();
  }
}

function cutOff(): ProtocolError {
  return new ProtocolError(
    "The driver's answer about its connections is not whole. " +
      'The driver and this package disagree: report it with the versions of both.',
  );
}
