/** A device over a native side that a test scripts. */

import type { NativeDevice, ReadEnd } from '../../../lib/addon/native.cjs';
import { Ioctl } from '../../../lib/codec/wire.js';
import { Device } from '../../../lib/device/device.js';
import { resolveOptions, type OpenOptions } from '../../../lib/device/options.js';
import { ReadableAnchor } from '../../../lib/device/readable_anchor.js';
import { Status } from '../../../lib/device/status.js';
import { bytes } from './records.js';

export interface Script {
  /** Whether the driver has the base protocol alone. */
  readonly isBase?: boolean;
  /** The status with which such a driver fails an unknown request. */
  readonly unknownRequest?: number;
  readonly maxCommandsPerWrite?: number;
  /** 1 by default. */
  readonly protocolExtension?: number;
  /** The outputs for a control code, one after the other. */
  readonly outputs?: Readonly<Record<number, readonly Uint8Array[]>>;
  /** The features of extension 1 by default. */
  readonly featureBits?: bigint;
  readonly version?: readonly number[];
}

export class ScriptedNative implements NativeDevice {
  end: ReadEnd | null = null;
  writeStatus: number = Status.Success;
  isClosed = false;
  /** The bytes of each write. */
  readonly writes: Uint8Array[] = [];
  readonly controls: { readonly code: number; readonly input: Uint8Array }[] = [];
  /** The control codes that were sent before reading began; undefined until it begins. */
  controlsBeforeStart: readonly number[] | undefined;
  /** The number of reads taken. */
  taken = 0;
  readonly #script: Script;
  readonly #reads: Uint8Array[] = [];
  readonly #onReadable: () => void;
  #pendingEnd: ReadEnd | undefined;
  #isArmed = false;

  constructor(script: Script, onReadable: () => void) {
    this.#script = script;
    this.#onReadable = onReadable;
  }

  /** Queues the bytes of one read. */
  feed(...records: readonly Uint8Array[]): void {
    this.#reads.push(bytes(...records));
    this.#signal();
  }

  finish(reason: ReadEnd['reason'], status: number = Status.EndOfFile): void {
    this.#pendingEnd = { reason, status };
    this.#signal();
  }

  start(): void {
    this.controlsBeforeStart = this.controls.map(({ code }) => code);
  }

  take(): Uint8Array | null {
    const read = this.#reads.shift();
    if (read === undefined) {
      this.end = this.#pendingEnd ?? null;
      this.#isArmed = true;
      return null;
    }
    this.taken += 1;
    return read;
  }

  write(commands: Uint8Array): { status: number; information: number } {
    if (this.writeStatus === Status.Success) {
      this.writes.push(commands.slice());
    }
    return { status: this.writeStatus, information: commands.length };
  }

  control(code: number, input: Uint8Array, length: number): { status: number; output: Uint8Array } {
    this.controls.push({ code, input: input.slice() });
    const isExtension = code !== Ioctl.Version && code !== Ioctl.ShutdownRequest;
    if (this.#script.isBase === true && isExtension) {
      const status = this.#script.unknownRequest ?? Status.InvalidDeviceRequest;
      return { status, output: new Uint8Array(0) };
    }
    const scripted = this.#script.outputs?.[code];
    if (scripted !== undefined) {
      const count = this.controls.filter((sent) => sent.code === code).length;
      return { status: Status.Success, output: scripted[count - 1]! };
    }
    const output = Buffer.alloc(length);
    if (code === Ioctl.GetCapabilities) {
      output.writeUInt32LE(20, 0);
      output.writeUInt32LE(this.#script.protocolExtension ?? 1, 4);
      output.writeBigUInt64LE(this.#script.featureBits ?? 0xfn, 8);
      output.writeUInt32LE(this.#script.maxCommandsPerWrite ?? 65_536, 16);
    }
    if (code === Ioctl.Version) {
      output.set(this.#script.version ?? [2, 1, 0, 0]);
    }
    return { status: Status.Success, output };
  }

  ref(): void {
    return;
  }

  unref(): void {
    return;
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }

  /** The command of each write: its first byte. */
  get commandsWritten(): number[] {
    return this.writes.map((write) => write[0]!);
  }

  #signal(): void {
    if (this.#isArmed) {
      this.#isArmed = false;
      setImmediate(this.#onReadable);
    }
  }
}

export function scriptedDevice(
  script: Script = {},
  options: OpenOptions = {},
): { device: Device; native: ScriptedNative; anchor: ReadableAnchor } {
  const anchor = new ReadableAnchor();
  const native = new ScriptedNative(script, anchor.onReadable);
  const resolved = resolveOptions({ backend: 'embedded', ...options });
  return { device: new Device(native, anchor, resolved), native, anchor };
}

/** Resolves in the next turn of the event loop, after its promise jobs. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
