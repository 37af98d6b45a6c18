/** The simulated network beneath the driver that Wine has loaded, reached through the simulation's device. */

import { closeSync, openSync, read, readSync, writeSync } from 'node:fs';
import type {
  LoadResult,
  NativeCounters,
  NativeFlowSpec,
  NativeLoadOptions,
  NativeNetwork,
  NativePacketWay,
  NativeReplay,
  NativeReplayOptions,
  NativeReplayProgress,
  OnNativeOutcome,
} from '../../lib/addon/native.cjs';
import { ControlReader, type ControlWriter } from './control_bytes.js';
import {
  CONTROL_EVENT_BYTES,
  Operation,
  readCounters,
  readEvents,
  request,
  writeFlow,
  writeLoad,
  writeReplay,
  type ControlEvent,
} from './control_protocol.js';

/** Node.js takes `\\.\name` for the root of a share, and adds a slash. */
const DEVICE_PATH = String.raw`\\.\GLOBALROOT\Device\NetVerdictSimulation`;
const MAX_RESPONSE_BYTES = 4096;

/** The driver's objects in the filter engine, and the simulation's pool. */
export interface EngineState {
  readonly layers: number;
  readonly pendedOperations: number;
  readonly injections: number;
  readonly netBufferLists: number;
  readonly poolBytes: number;
}

type Listen = (event: ControlEvent) => void;

export class RemoteNetwork implements NativeNetwork {
  static #current: RemoteNetwork | undefined;

  readonly #requests = openSync(DEVICE_PATH, 'r+');
  readonly #listeners = new Map<number, Listen>();
  #lastTag = 0;
  #isClosed = false;

  private constructor() {
    this.#ask(request(Operation.begin));
  }

  /** Opens a network without traffic. Only one is open at a time: opening another one ends it. */
  static open(): RemoteNetwork {
    const network = RemoteNetwork.openUnheard();
    const events = openSync(DEVICE_PATH, 'r+');
    writeSync(events, request(Operation.events).finish());
    network.#readEvents(events);
    return network;
  }

  /** As {@link open}, but outcomes are not read, because the pending read would keep the process alive. */
  static openUnheard(): RemoteNetwork {
    RemoteNetwork.#current?.close();
    RemoteNetwork.#current = new RemoteNetwork();
    return RemoteNetwork.#current;
  }

  /** Ends the network. A second call has no effect. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#ask(request(Operation.end));
    closeSync(this.#requests);
  }

  connect(spec: NativeFlowSpec, onOutcome: OnNativeOutcome): number {
    return this.#start(Operation.connect, spec, onOutcome);
  }

  accept(spec: NativeFlowSpec, onOutcome: OnNativeOutcome): number {
    return this.#start(Operation.accept, spec, onOutcome);
  }

  listen(spec: NativeFlowSpec): number {
    return this.#ask(writeFlow(request(Operation.listen), spec)).u64();
  }

  closeListener(id: number): void {
    this.#ask(request(Operation.closeListener).u64(id));
  }

  send(flow: number, bytes: Uint8Array, onOutcome?: OnNativeOutcome): void {
    this.#ask(request(Operation.send).u64(this.#outcomeTag(onOutcome)).u64(flow).bytes(bytes));
  }

  receive(flow: number, bytes: Uint8Array, onOutcome?: OnNativeOutcome): void {
    this.#ask(request(Operation.receive).u64(this.#outcomeTag(onOutcome)).u64(flow).bytes(bytes));
  }

  closeFlow(flow: number): void {
    this.#ask(request(Operation.closeFlow).u64(flow));
  }

  packet(way: NativePacketWay, bytes: Uint8Array, onOutcome: OnNativeOutcome, link = 0): void {
    const tag = this.#outcomeTag(onOutcome);
    this.#ask(request(Operation.packet).u64(tag).u8(way).u8(link).bytes(bytes));
  }

  acceptSecured(): void {
    this.#ask(request(Operation.acceptSecured));
  }

  reauthorize(): void {
    this.#ask(request(Operation.reauthorize));
  }

  replay(
    options: NativeReplayOptions,
    onProgress: (progress: NativeReplayProgress) => void,
  ): NativeReplay {
    let tag = 0;
    const done = new Promise<Awaited<NativeReplay['done']>>((resolve, reject) => {
      tag = this.#listen((event) => {
        if (event.kind === 'progress') {
          onProgress(event.progress);
          return;
        }
        this.#listeners.delete(event.tag);
        if (event.kind === 'replayed') resolve(event.summary);
        if (event.kind === 'failed') reject(new Error(event.message));
      });
    });
    this.#ask(writeReplay(request(Operation.replay).u64(tag), options));
    return { id: tag, done };
  }

  stopReplay(id: number): void {
    this.#ask(request(Operation.stopReplay).u64(id));
  }

  load(options: NativeLoadOptions): Promise<LoadResult> {
    return new Promise((resolve) => {
      const tag = this.#listen((event) => {
        this.#listeners.delete(event.tag);
        if (event.kind === 'loaded') resolve(event.result);
      });
      this.#ask(writeLoad(request(Operation.load).u64(tag), options));
    });
  }

  /** Time under Wine is real: this thread waits, while the driver and its reads continue. */
  advance(milliseconds: number): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  }

  counters(): NativeCounters {
    return readCounters(this.#ask(request(Operation.counters)));
  }

  poolBytes(): number {
    return this.engine().poolBytes;
  }

  injectFaults(): void {
    throw new Error("Wine's own calls cannot be made to fail.");
  }

  injectedFaults(): number {
    return 0;
  }

  hinderEngine(hindrance: number, status: number): void {
    this.#ask(
      request(Operation.hinder)
        .u8(hindrance)
        .u32(status >>> 0),
    );
  }

  filteredLayers(): number {
    return this.engine().layers;
  }

  engine(): EngineState {
    const answer = this.#ask(request(Operation.engine));
    return {
      layers: answer.u64(),
      pendedOperations: answer.u64(),
      injections: answer.u64(),
      netBufferLists: answer.u64(),
      poolBytes: answer.u64(),
    };
  }

  onWire(callback: null | ((direction: 0 | 1, bytes: Uint8Array) => void)): void {
    const tag =
      callback === null
        ? 0
        : this.#listen((event) => {
            if (event.kind === 'wire') callback(event.direction, event.packet);
          });
    this.#ask(request(Operation.wire).u64(tag));
  }

  #start(operation: number, spec: NativeFlowSpec, onOutcome: OnNativeOutcome): number {
    const tag = this.#outcomeTag(onOutcome);
    return this.#ask(writeFlow(request(operation).u64(tag), spec)).u64();
  }

  /** Sends a request and returns a reader of its answer. */
  #ask(writer: ControlWriter): ControlReader {
    writeSync(this.#requests, writer.finish());
    const response = Buffer.alloc(MAX_RESPONSE_BYTES);
    const length = readSync(this.#requests, response, 0, response.length, null);
    const answer = new ControlReader(response.subarray(0, length));
    const status = answer.u32();
    if (status !== 0) {
      throw new Error(`The simulation refuses a request, with status 0x${status.toString(16)}.`);
    }
    return answer;
  }

  #listen(listener: Listen): number {
    this.#lastTag += 1;
    this.#listeners.set(this.#lastTag, listener);
    return this.#lastTag;
  }

  #outcomeTag(onOutcome: OnNativeOutcome | undefined): number {
    if (onOutcome === undefined) return 0;
    return this.#listen((event) => {
      this.#listeners.delete(event.tag);
      if (event.kind === 'outcome') onOutcome(event.outcome);
    });
  }

  #readEvents(events: number): void {
    const buffer = Buffer.alloc(CONTROL_EVENT_BYTES);
    read(events, buffer, 0, buffer.length, null, (error, length) => {
      if (error || length === 0) {
        closeSync(events);
        return;
      }
      for (const event of readEvents(buffer.subarray(0, length))) {
        this.#listeners.get(event.tag)?.(event);
      }
      this.#readEvents(events);
    });
  }
}
