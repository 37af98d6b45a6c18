/** An open device: it gives events, and takes verdicts and commands. */

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { NativeDevice } from '../addon/native.cjs';
import {
  check,
  choice,
  integer,
  list,
  object,
  optional,
  signalSchema,
  withDefault,
} from '../base/checks.js';
import {
  BusyError,
  ClosedError,
  DriverShutdownError,
  InvalidArgumentError,
  UnsupportedError,
} from '../base/errors.js';
import {
  encodeCommand,
  type ConnectionIdentity,
  type PlainCommandName,
} from '../codec/commands.js';
import type { Capabilities, DriverVersion, Statistics } from '../codec/driver_info.js';
import {
  EVENT_TYPES,
  type BandwidthEntry,
  type EventOf,
  type EventType,
  type InfoRecord,
  type LogEvent,
  type NetVerdictEvent,
} from '../codec/events.js';
import { RecordDecoder } from '../codec/record_decoder.js';
import { decodeConnections, type ConnectionSnapshot } from '../codec/snapshot.js';
import { Verdict } from '../codec/verdicts.js';
import { CommandType, Feature } from '../codec/wire.js';
import { untilAborted } from './abort.js';
import {
  checkOptions,
  keepAlive,
  readCapabilities,
  readConnections,
  readStatistics,
  readVersion,
  updateConnection,
  writeOptions,
} from './control.js';
import { BatchIterator, EventIterator } from './event_iterators.js';
import { EventStream } from './event_stream.js';
import { LifeSigns } from './life_signs.js';
import type { ResolvedClientOptions } from './options.js';
import type { ReadableAnchor } from './readable_anchor.js';
import { ReplyCollector } from './reply_collector.js';
import { Status, isOutOfMemory, isSuccess, statusError } from './status.js';
import { VerdictQueue } from './verdict_queue.js';

/** Options for `events()`. */
export interface EventsOptions<T extends EventType = EventType> {
  /** The event types to give; all by default. */
  readonly types?: readonly T[];
  /** Aborts the iterator, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options for `batches()`. */
export interface BatchesOptions {
  /** Aborts the iterator, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options for `watchBandwidth()`. */
export interface WatchBandwidthOptions {
  /** Milliseconds between two requests, from 1; 1000 by default. */
  readonly intervalMs?: number;
  /** Aborts the iterator, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A line of the driver's log. */
export type LogLine = Pick<LogEvent, 'severity' | 'message'>;

/** How long writing verdicts is retried while memory is short. The addon retries reads for as long. */
const OUT_OF_MEMORY_PATIENCE_MS = 5000;

const eventsSchema = object({
  types: optional(list(choice(EVENT_TYPES))),
  signal: optional(signalSchema),
});
const batchesSchema = object({ signal: optional(signalSchema) });
const watchSchema = object({
  intervalMs: withDefault(integer(1, 0x7fff_ffff), 1000),
  signal: optional(signalSchema),
});

/**
 * An open device, as returned by {@link open} and {@link createSimulator}.
 *
 * A device has one stream of events. Any number of iterators may read it, and each gets every event.
 * The first iterator starts at the oldest event that none has given; each further one starts at the next event read.
 * The slowest iterator sets the pace.
 * Leaving a `for await` loop ends its iterator. Otherwise call `return()` on an iterator that you do not read to its end.
 *
 * The answers to `getLogs` and `getBandwidth` resolve those calls and do not reach the iterators.
 *
 * @example
 * ```ts
 * await using device = await open();
 * for await (const event of device) {
 *   if (event.type === 'connection') event.accept({ permanent: true });
 * }
 * ```
 */
export class Device implements AsyncDisposable, AsyncIterable<NetVerdictEvent> {
  readonly #native: NativeDevice;
  readonly #closeNative: () => Promise<void>;
  readonly #version: DriverVersion;
  readonly #capabilities: Capabilities | undefined;
  readonly #verdicts: VerdictQueue;
  readonly #decoder: RecordDecoder;
  readonly #stream: EventStream;
  readonly #logs: ReplyCollector<LogEvent>;
  readonly #bandwidth: ReplyCollector<BandwidthEntry>;
  readonly #ended = new AbortController();
  readonly #lifeSigns: LifeSigns | undefined;
  #outOfMemorySince: number | undefined;
  #closing: Promise<void> | undefined;
  #stopWatchingSignal: () => void = () => undefined;

  /** @internal `closeNative` closes the client, and what else ends with it. */
  constructor(
    native: NativeDevice,
    anchor: ReadableAnchor,
    options: ResolvedClientOptions,
    closeNative = (): Promise<void> => native.close(),
  ) {
    this.#native = native;
    this.#closeNative = closeNative;
    this.#version = readVersion(native);
    this.#capabilities = readCapabilities(native);
    if (this.#capabilities !== undefined) {
      checkOptions(options, this.#capabilities);
      writeOptions(native, options.driver, this.#capabilities);
    } else if (options.given.length > 0) {
      throw new UnsupportedError(
        `This driver has the base protocol alone and takes no options. Leave out ${options.given.join(', ')}, ` +
          'or update the driver.',
      );
    }
    this.#verdicts = new VerdictQueue(
      this.#writeVerdicts.bind(this),
      this.#capabilities?.maxCommandsPerWrite ?? 1,
    );
    this.#logs = this.#newCollector('get-logs');
    this.#bandwidth = this.#newCollector('get-bandwidth');
    this.#decoder = new RecordDecoder({
      verdicts: this.#verdicts,
      intercept: (record) => this.#intercept(record),
    });
    this.#stream = new EventStream({
      native,
      decoder: this.#decoder,
      anchor,
      // All events that the driver can queue before an answer fit, even if nothing iterates.
      backlogLimit: options.highWaterMark + options.driver.maxQueuedBytes,
      awaitsReplies: () => this.#logs.waiting || this.#bandwidth.waiting,
      onBacklogFull: () => {
        this.#failReplies(backlogFull());
      },
      onReadable: () => {
        this.#lifeSigns?.onReadable();
      },
      onEnd: (failure) => {
        this.#onStreamEnd(failure);
      },
    });
    this.#lifeSigns = this.#newLifeSigns(options.driver.stallTimeoutMs);
    native.start();
    this.#watchSignal(options.signal);
  }

  /** Iterates every event; see {@link Device.events}. */
  [Symbol.asyncIterator](): AsyncIterableIterator<NetVerdictEvent, undefined> {
    return this.events();
  }

  /**
   * Iterates single events, of all types or of some. Ends when the device is closed or the driver shuts down.
   *
   * Events of other types are skipped. A skipped `lost` event emits a process warning, at most one a second.
   *
   * The iterator rejects with the reason of an aborted signal.
   * It rejects with a {@link ProtocolError} when the driver's stream is corrupt.
   *
   * @throws {@link InvalidArgumentError} at once for invalid options.
   */
  events<T extends EventType = EventType>(
    options: EventsOptions<T> = {},
  ): AsyncIterableIterator<EventOf<T>, undefined> {
    const { types, signal } = check(eventsSchema, options, 'The options of events()');
    return new EventIterator(this.#stream, types && new Set(types), signal);
  }

  /**
   * Iterates arrays of the events of one read, which is the fastest way. All iterators share the arrays.
   *
   * @throws {@link InvalidArgumentError} as {@link Device.events} does.
   */
  batches(
    options: BatchesOptions = {},
  ): AsyncIterableIterator<readonly NetVerdictEvent[], undefined> {
    const { signal } = check(batchesSchema, options, 'The options of batches()');
    return new BatchIterator(this.#stream, signal);
  }

  /**
   * Gives the connection or packet that waits with `id` its verdict.
   *
   * Verdicts of one tick reach the driver together, at the end of the tick.
   * The driver ignores, and counts, a verdict whose id no longer waits.
   * After the driver has shut down, verdicts have no effect: its fail policy has decided everything.
   * After the stream has failed, verdicts for reported events still count until the device is closed.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict. The device remembers the last 131072 ids.
   * @throws {@link InvalidArgumentError} for an invalid id or verdict.
   * @throws {@link ClosedError} when the device is closed.
   */
  setVerdict(id: bigint, verdict: Verdict): void {
    this.#verdicts.set(id, verdict);
  }

  /**
   * Gives many verdicts, in one write and at once.
   *
   * @throws the errors of {@link Device.setVerdict}. The verdicts before the invalid one take effect.
   * @example
   * ```ts
   * device.setVerdicts(events.map((event) => [event.id, Verdict.PermanentAccept]));
   * ```
   */
  setVerdicts(verdicts: Iterable<readonly [id: bigint, verdict: Verdict]>): void {
    if (!isIterable(verdicts)) {
      throw noVerdicts(verdicts);
    }
    try {
      for (const pair of verdicts) {
        checkPair(pair);
        this.#verdicts.set(pair[0], pair[1]);
      }
    } finally {
      this.#verdicts.flush();
    }
  }

  /**
   * Changes the verdict of a live connection. `'ask'` makes the driver ask about it again.
   *
   * Returns `true` if the driver has changed it, and `false` if the driver does not know the connection.
   * Returns `undefined` for a driver without extension 2, which cannot say it.
   *
   * @throws {@link InvalidArgumentError} for an invalid connection or verdict.
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link DriverShutdownError} when the driver has shut down.
   */
  updateVerdict(connection: ConnectionIdentity, verdict: Verdict | 'ask'): boolean | undefined {
    const what = 'Updating a verdict';
    const newVerdict = verdict === 'ask' ? Verdict.Undecided : verdict;
    const command = encodeCommand({ command: 'update', connection, verdict: newVerdict });
    if (!this.#has(Feature.UpdateConnection)) {
      this.#write(command, what);
      return undefined;
    }
    this.#assertUsable();
    this.#flushVerdicts(what);
    return updateConnection(this.#native, command);
  }

  /**
   * Reads the connections that the driver remembers. Those that ended are among them for a minute.
   *
   * The driver has many connections, so this takes several requests. A connection that begins or ends meanwhile may be
   * missing.
   *
   * @throws {@link UnsupportedError} for a driver without extension 2.
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link DriverShutdownError} when the driver has shut down.
   * @example
   * ```ts
   * for (const connection of await device.connections()) {
   *   console.log(connection.remoteAddress, connection.transmitted, connection.received);
   * }
   * ```
   */
  async connections(): Promise<ConnectionSnapshot[]> {
    const all: ConnectionSnapshot[] = [];
    let cursor = 0n;
    do {
      this.#assertUsable();
      if (!this.#has(Feature.GetConnections)) {
        throw new UnsupportedError(
          'This driver does not show its connections. Keep the connection events instead, or update the driver.',
        );
      }
      const bytes = readConnections(this.#native, cursor);
      const reply = decodeConnections(this.#decoder.source(bytes));
      all.push(...reply.connections);
      cursor = reply.nextCursor;
      if (cursor !== 0n) {
        await nextTurn();
      }
    } while (cursor !== 0n);
    return all;
  }

  /**
   * Reads the driver's log since the last call, oldest line first.
   *
   * A loop that reads the device may await this call: the events before the answer are kept for the loop.
   *
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link DriverShutdownError} when the driver has shut down.
   * @throws {@link BusyError} when the events before the answer exceed `highWaterMark` plus `maxQueuedBytes`.
   * The lines of such an answer go to the next call, or become events.
   */
  async getLogs(): Promise<LogLine[]> {
    return this.#ask(this.#logs);
  }

  /**
   * Reads how many bytes each connection has transferred since the last call. Connections without traffic are left out.
   *
   * @throws the errors of {@link Device.getLogs}.
   */
  async getBandwidth(): Promise<BandwidthEntry[]> {
    return this.#ask(this.#bandwidth);
  }

  /**
   * Iterates the results of {@link Device.getBandwidth}, called periodically.
   *
   * Ends when the device is closed or the driver shuts down.
   * Its timer does not keep the process alive; the open device does.
   * The iterator rejects with the other errors of {@link Device.getBandwidth}, and with the reason of an aborted signal.
   *
   * @throws {@link InvalidArgumentError} at once for invalid options.
   */
  watchBandwidth(
    options: WatchBandwidthOptions = {},
  ): AsyncIterableIterator<BandwidthEntry[], undefined> {
    const { intervalMs, signal } = check(watchSchema, options, 'The options of watchBandwidth()');
    return this.#watchBandwidth(intervalMs, signal);
  }

  /** Makes the driver forget every connection, and WFP authorize all flows again. */
  clearCache(): void {
    this.#command('clear-cache');
  }

  /** Makes the driver forget connections that ended over a minute ago or were idle for over ten minutes. */
  cleanEndedConnections(): void {
    this.#command('clean-ended-connections');
  }

  /** Makes the driver write the sizes of its tables to its log. */
  printMemoryStats(): void {
    this.#command('print-memory-stats');
  }

  /**
   * Reads the driver's counters.
   *
   * @throws {@link UnsupportedError} for a driver with the base protocol alone.
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link DriverShutdownError} when the driver has shut down.
   */
  getStatistics(): Promise<Statistics> {
    return Promise.resolve().then(() => {
      this.#assertUsable();
      if (this.#capabilities === undefined) {
        throw new UnsupportedError(
          'This driver reports no statistics. Use printMemoryStats() and getLogs(), or update the driver.',
        );
      }
      return readStatistics(this.#native);
    });
  }

  /** The driver's protocol version, read when the device was opened. */
  version(): DriverVersion {
    return this.#version;
  }

  /** The driver's features beyond the base protocol; undefined if it has the base protocol alone. */
  capabilities(): Capabilities | undefined {
    return this.#capabilities;
  }

  /** Whether the device is closed or closing. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Makes the driver stop filtering. Its fail policy decides what waits. The iterators end after the last queued event.
   *
   * @throws {@link ClosedError} when the device is closed.
   * @throws {@link DriverShutdownError} when the driver has shut down.
   */
  shutdown(): void {
    this.#command('shutdown');
  }

  /**
   * Closes the device, within a second. Closing again has no effect.
   *
   * The fail policy decides what waits, and what arrives until the driver has another client.
   * A driver of the base protocol may keep a read until it has an event. If no cancel ends that read, the driver is shut
   * down. If that does not end it either, the driver's handle stays open until the read ends.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close(undefined));
  }

  /** Closes the device, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Keeps the process alive while the device is open, which is the default. */
  ref(): this {
    this.#native.ref();
    return this;
  }

  /**
   * @internal Tells the driver that this program lives, if it does.
   * Returns the milliseconds after which that is due again; undefined if nothing waits.
   */
  lookAlive(): number | undefined {
    return this.#lifeSigns?.look();
  }

  /** Lets the process end while the device is open. */
  unref(): this {
    this.#native.unref();
    return this;
  }

  async #close(reason: unknown): Promise<void> {
    this.#verdicts.flush();
    this.#verdicts.stop(closed);
    this.#lifeSigns?.stop();
    this.#stopWatchingSignal();
    this.#stream.stop(reason);
    this.#failReplies(reason ?? closed());
    this.#ended.abort();
    await this.#closeNative();
  }

  #command(command: PlainCommandName): void {
    this.#write(encodeCommand({ command }), `The command ${command}`);
  }

  #has(feature: bigint): boolean {
    return ((this.#capabilities?.featureBits ?? 0n) & feature) !== 0n;
  }

  #flushVerdicts(what: string): void {
    if (!this.#verdicts.flush()) {
      throw statusError(Status.InsufficientResources, what);
    }
  }

  /** Writes a command, after the verdicts that were given before it. */
  #write(command: Uint8Array, what: string): void {
    this.#assertUsable();
    this.#flushVerdicts(what);
    const { status } = this.#native.write(command);
    if (!isSuccess(status)) {
      throw statusError(status, what);
    }
  }

  /**
   * Writes verdicts. Returns false to be called again later when memory is short: connections wait for these verdicts.
   * Any other failure ends the stream, because no caller could catch an error here.
   */
  #writeVerdicts(commands: Uint8Array): boolean {
    const { status } = this.#native.write(commands);
    if (isOutOfMemory(status)) {
      this.#outOfMemorySince ??= performance.now();
      if (performance.now() - this.#outOfMemorySince < OUT_OF_MEMORY_PATIENCE_MS) {
        return false;
      }
    }
    this.#outOfMemorySince = undefined;
    if (!isSuccess(status)) {
      const error = statusError(status, 'Writing verdicts');
      if (!(error instanceof DriverShutdownError)) {
        this.#stream.finish(error);
      }
    }
    return true;
  }

  #assertUsable(): void {
    if (this.#closing !== undefined) {
      throw closed();
    }
    if (this.#stream.ended) {
      throw shutDown(this.#stream.failure);
    }
  }

  async #ask<T>(collector: ReplyCollector<T>, signal?: AbortSignal): Promise<T[]> {
    this.#assertUsable();
    try {
      const reply = collector.ask(signal);
      this.#stream.wake();
      return await reply;
    } finally {
      this.#stream.updateHold();
    }
  }

  #newCollector<T>(command: PlainCommandName): ReplyCollector<T> {
    return new ReplyCollector({
      send: () => {
        this.#command(command);
      },
      endsReplies: this.#capabilities !== undefined,
      isDrained: () => this.#stream.drained,
    });
  }

  #newLifeSigns(timeoutMs: number): LifeSigns | undefined {
    if (timeoutMs === 0 || !this.#has(Feature.Stall)) {
      return undefined;
    }
    const native = this.#native;
    const stream = this.#stream;
    return new LifeSigns(timeoutMs, {
      pace: () => stream.pace(),
      hasUnread: () => stream.hasUnread,
      tell: () => {
        keepAlive(native);
      },
      ask: () => {
        const { packetsHeld, clientStalls } = readStatistics(native);
        return { waiting: packetsHeld, stalls: clientStalls };
      },
    });
  }

  /** Takes answers, and records that only the device needs, out of the stream. */
  #intercept(record: InfoRecord): boolean {
    switch (record.type) {
      case 'log':
        return this.#logs.offer([record]);
      case 'bandwidth':
        return this.#bandwidth.offer(record.entries);
      case 'reply-end':
        this.#collectorOf(record.command)?.end(record.sequence);
        return true;
      case 'process-info':
      case 'connection-info':
      case 'connection-ended':
        return true;
      case 'timeout':
        if (record.cause === 'stall') {
          this.#lifeSigns?.onStall();
        }
        return false;
      case 'lost':
      case 'protocol-error':
        this.#logs.doubt();
        this.#bandwidth.doubt();
        return false;
      default:
        return false;
    }
  }

  #collectorOf(command: number): { end(sequence: bigint): void } | undefined {
    switch (command) {
      case CommandType.GetLogs:
        return this.#logs;
      case CommandType.GetBandwidthStats:
        return this.#bandwidth;
      default:
        return undefined;
    }
  }

  #failReplies(reason: unknown): void {
    this.#logs.fail(reason);
    this.#bandwidth.fail(reason);
  }

  /** After a failure the driver may still run and hold reported connections, so their verdicts still count. */
  #onStreamEnd(failure: unknown): void {
    if (failure === undefined) {
      this.#verdicts.discard();
    }
    this.#lifeSigns?.stop();
    this.#failReplies(failure ?? shutDown(undefined));
    this.#ended.abort();
  }

  async *#watchBandwidth(
    intervalMs: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<BandwidthEntry[], undefined> {
    const signals = [this.#ended.signal, signal];
    try {
      for (;;) {
        await untilAborted(signals, (stop) =>
          sleep(intervalMs, undefined, { signal: stop, ref: false }),
        );
        yield await untilAborted(signals, (stop) => this.#ask(this.#bandwidth, stop));
      }
    } catch (error) {
      if (signal?.aborted === true) {
        throw signal.reason;
      }
      if (this.#stream.failure !== undefined) {
        throw this.#stream.failure as Error;
      }
      if (!this.#ended.signal.aborted && !(error instanceof DriverShutdownError)) {
        throw error;
      }
    }
    return undefined;
  }

  /** Refers to the device weakly: a signal that lives longer must not keep it from being collected. */
  #watchSignal(signal: AbortSignal | undefined): void {
    if (signal === undefined) {
      return;
    }
    const weak = new WeakRef(this);
    const onAbort = (): void => {
      const device = weak.deref();
      if (device !== undefined) {
        device.#closing ??= device.#close(signal.reason);
      }
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#stopWatchingSignal = () => {
      signal.removeEventListener('abort', onAbort);
    };
  }
}

function isIterable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

function checkPair(pair: unknown): void {
  if (!Array.isArray(pair)) {
    throw noVerdicts(pair);
  }
}

function noVerdicts(given: unknown): InvalidArgumentError {
  return new InvalidArgumentError(
    `setVerdicts() takes pairs of an id and a verdict, such as [[event.id, Verdict.Accept]]. Got ${inspect(given)}.`,
  );
}

function closed(): ClosedError {
  return new ClosedError('The device is closed. Open another one.');
}

function shutDown(cause: unknown): DriverShutdownError {
  return new DriverShutdownError(
    'The driver has shut down or its stream has failed. Close this device, and open another one once the driver runs.',
    { cause },
  );
}

function backlogFull(): BusyError {
  return new BusyError(
    'More events come before the answer than may be kept in memory. Read the events of the device, or read them ' +
      'faster, and ask again.',
  );
}
