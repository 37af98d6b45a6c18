/** An open device: events out, verdicts and commands in. */

import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { z } from 'zod';
import type { NativeDevice } from '../addon/native.cjs';
import { check, signalSchema } from '../base/checks.js';
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
import type { Verdict } from '../codec/verdicts.js';
import { CommandType } from '../codec/wire.js';
import { untilAborted } from './abort.js';
import { readCapabilities, readStatistics, readVersion, writeOptions } from './control.js';
import { BatchIterator, EventIterator } from './event_iterators.js';
import { EventStream } from './event_stream.js';
import type { ResolvedClientOptions } from './options.js';
import type { ReadableAnchor } from './readable_anchor.js';
import { ReplyCollector } from './reply_collector.js';
import { Status, isOutOfMemory, isSuccess, statusError } from './status.js';
import { VerdictQueue } from './verdict_queue.js';

/** Which events an iterator gives, and until when. */
export interface EventsOptions<T extends EventType = EventType> {
  /** The types that are wanted; all by default. */
  readonly types?: readonly T[];
  /** Ends the iterator: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Until when an iterator gives batches. */
export interface BatchesOptions {
  /** Ends the iterator: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How often bandwidth is asked for, and until when. */
export interface WatchBandwidthOptions {
  /** Milliseconds between two questions, from 1; 1000 by default. */
  readonly intervalMs?: number;
  /** Ends the iterator: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A line of the driver's log. */
export type LogLine = Pick<LogEvent, 'severity' | 'message'>;

/** So long verdicts may find no memory to be written with; the addon's reads wait as long. */
const OUT_OF_MEMORY_PATIENCE_MS = 5000;

const eventsSchema = z.strictObject({
  types: z.array(z.enum(EVENT_TYPES)).optional(),
  signal: signalSchema.optional(),
});
const batchesSchema = z.strictObject({ signal: signalSchema.optional() });
const watchSchema = z.strictObject({
  intervalMs: z.int().min(1).max(0x7fff_ffff).default(1000),
  signal: signalSchema.optional(),
});

/**
 * An open device, as {@link open} and {@link createSimulator} give it.
 *
 * There is one stream of events. Any number of iterators may run over it, and each sees every event: the first one from
 * the oldest event that no iterator has given out, a further one from where the stream is then. The slowest sets the
 * pace. An iterator that is not read to its end must be ended by `return()`, as leaving a `for await` loop does.
 *
 * Answers to `getLogs` and `getBandwidth` go to whoever asked, not to the iterators, and come whether or not anybody
 * iterates.
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
  readonly #stream: EventStream;
  readonly #logs: ReplyCollector<LogEvent>;
  readonly #bandwidth: ReplyCollector<BandwidthEntry>;
  readonly #ended = new AbortController();
  #outOfMemorySince: number | undefined;
  #closing: Promise<void> | undefined;
  #stopWatchingSignal: () => void = () => undefined;

  /** @internal `closeNative`: what closing does, where that is more than closing the client. */
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
      writeOptions(native, options.driver);
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
    this.#stream = new EventStream({
      native,
      decoder: new RecordDecoder({
        verdicts: this.#verdicts,
        intercept: (record) => this.#intercept(record),
      }),
      anchor,
      // Whatever lies before an answer fits, even if nobody iterates.
      backlogLimit: options.highWaterMark + options.driver.maxQueuedBytes,
      awaitsReplies: () => this.#logs.waiting || this.#bandwidth.waiting,
      onBacklogFull: () => {
        this.#failReplies(backlogFull());
      },
      onEnd: (failure) => {
        this.#onStreamEnd(failure);
      },
    });
    this.#watchSignal(options.signal);
  }

  /** Every event; see {@link Device.events}. */
  [Symbol.asyncIterator](): AsyncIterableIterator<NetVerdictEvent, undefined> {
    return this.events();
  }

  /**
   * Single events, of all types or of some. Ends when the device is closed or the driver shuts down.
   *
   * What `types` leaves out is passed over; a `lost` event that is passed over makes a process warning.
   *
   * @throws {@link InvalidArgumentError} at once, for options that are not as they must be. The iterator rejects with
   *   the reason of an aborted signal, and with a {@link ProtocolError} when the driver's stream is corrupt.
   */
  events<T extends EventType = EventType>(
    options: EventsOptions<T> = {},
  ): AsyncIterableIterator<EventOf<T>, undefined> {
    const { types, signal } = check(eventsSchema, options, 'The options of events()');
    return new EventIterator(this.#stream, types && new Set(types), signal);
  }

  /**
   * The events of one read at a time: the fastest way. The arrays are shared by all iterators.
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
   * Decides what waits under `id`. The verdicts of one tick reach the driver together, at its end.
   *
   * After the driver has shut down this does nothing: it has decided everything itself. When the stream has failed but
   * the driver runs on, what it has reported can still be decided, until the device is closed. The driver also ignores,
   * and counts, a verdict for an id that does not wait any more.
   *
   * @throws {@link AlreadyDecidedError} for a second verdict, as far as the last 131072 ids are concerned;
   *   {@link InvalidArgumentError}; {@link ClosedError}.
   */
  setVerdict(id: bigint, verdict: Verdict): void {
    this.#verdicts.set(id, verdict);
  }

  /**
   * Decides many, in one write and at once.
   *
   * @throws as {@link Device.setVerdict}; the verdicts before the one that is wrong are carried out.
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
   * Changes the verdict of a live connection. One that the driver does not know is ignored there, and counted.
   *
   * @throws {@link InvalidArgumentError}, {@link ClosedError}, {@link DriverShutdownError}.
   */
  updateVerdict(connection: ConnectionIdentity, verdict: Verdict): void {
    this.#write(encodeCommand({ command: 'update', connection, verdict }), 'Updating a verdict');
  }

  /**
   * The driver's log since it was last asked for, oldest line first.
   *
   * May be awaited in the loop that reads the device: until the answer, events are kept for the loop.
   *
   * @throws {@link ClosedError}, {@link DriverShutdownError}; {@link BusyError} when more events come before the answer
   *   than may be kept for whoever iterates, or is to: `highWaterMark` and `maxQueuedBytes` together. What has come of
   *   the answer by then goes to the next one that asks, or to the iterators.
   */
  async getLogs(): Promise<LogLine[]> {
    return this.#ask(this.#logs);
  }

  /**
   * What each connection has transferred since it was last asked for; those without traffic are left out.
   *
   * @throws as {@link Device.getLogs}.
   */
  async getBandwidth(): Promise<BandwidthEntry[]> {
    return this.#ask(this.#bandwidth);
  }

  /**
   * Asks for bandwidth again and again. Ends when the device is closed or the driver shuts down. Its waiting between two
   * questions does not keep the process alive; the open device does.
   *
   * @throws {@link InvalidArgumentError} at once. The iterator rejects as {@link Device.getBandwidth} does otherwise, and
   *   with the reason of an aborted signal.
   */
  watchBandwidth(
    options: WatchBandwidthOptions = {},
  ): AsyncIterableIterator<BandwidthEntry[], undefined> {
    const { intervalMs, signal } = check(watchSchema, options, 'The options of watchBandwidth()');
    return this.#watchBandwidth(intervalMs, signal);
  }

  /** Forgets every connection and makes WFP ask about all flows again. */
  clearCache(): void {
    this.#command('clear-cache');
  }

  /** Forgets the connections that ended over a minute ago or were idle for over ten minutes. */
  cleanEndedConnections(): void {
    this.#command('clean-ended-connections');
  }

  /** Writes the sizes of the driver's caches to its log. */
  printMemoryStats(): void {
    this.#command('print-memory-stats');
  }

  /**
   * The driver's counters.
   *
   * @throws {@link UnsupportedError} with a driver that has the base protocol alone; {@link ClosedError};
   *   {@link DriverShutdownError}.
   */
  getStatistics(): Promise<Statistics> {
    return Promise.resolve().then(() => {
      this.#assertUsable();
      if (this.#capabilities === undefined) {
        throw new UnsupportedError(
          'This driver keeps no statistics for its client. Use printMemoryStats() and getLogs(), or another driver.',
        );
      }
      return readStatistics(this.#native);
    });
  }

  /** The protocol version that the driver told when the device was opened. */
  version(): DriverVersion {
    return this.#version;
  }

  /** What the driver can do beyond the base protocol; undefined when it has that alone. */
  capabilities(): Capabilities | undefined {
    return this.#capabilities;
  }

  /** Whether the device was closed, or is being closed. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Makes the driver stop filtering: it decides what waits by its fail policy, and the iterators end once they have
   * given out what it had queued.
   *
   * @throws {@link ClosedError}, {@link DriverShutdownError}.
   */
  shutdown(): void {
    this.#command('shutdown');
  }

  /**
   * Gives up the device. What waits for a verdict is decided by the fail policy, and so is what comes until the driver has
   * another client. Closing again does nothing more.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close(undefined));
  }

  /** Closes the device, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Keeps the process alive while the device is open, as it does from the beginning. */
  ref(): this {
    this.#native.ref();
    return this;
  }

  /** Lets the process end although the device is open. */
  unref(): this {
    this.#native.unref();
    return this;
  }

  async #close(reason: unknown): Promise<void> {
    this.#verdicts.flush();
    this.#verdicts.stop(closed);
    this.#stopWatchingSignal();
    this.#stream.stop(reason);
    this.#failReplies(reason ?? closed());
    this.#ended.abort();
    await this.#closeNative();
  }

  #command(command: PlainCommandName): void {
    this.#write(encodeCommand({ command }), `The command ${command}`);
  }

  /** Verdicts given before a command reach the driver before it. */
  #write(command: Uint8Array, what: string): void {
    this.#assertUsable();
    if (!this.#verdicts.flush()) {
      throw statusError(Status.InsufficientResources, what);
    }
    const { status } = this.#native.write(command);
    if (!isSuccess(status)) {
      throw statusError(status, what);
    }
  }

  /**
   * Nobody is there to catch what goes wrong here, but the iterators are. False where there was no memory, which may
   * change: connections wait for these verdicts.
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

  /** Keeps answers, and what only the device needs, from the iterators. */
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
        return true;
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

  /** After a failure the driver may run on, and hold connections that were reported: their verdicts still count. */
  #onStreamEnd(failure: unknown): void {
    if (failure === undefined) {
      this.#verdicts.discard();
    }
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

  /** The signal may live longer than the device, and must not keep it from being collected. */
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
    'The answer lies behind more events than may be kept in memory until they are read. Iterate the device, faster if ' +
      'it is, and ask again.',
  );
}
