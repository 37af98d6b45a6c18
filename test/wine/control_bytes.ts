/** Reads and writes the fields of the control protocol: little-endian, without padding. */

export class ControlWriter {
  readonly #chunks: Buffer[] = [];

  bytes(value: Uint8Array): this {
    this.#chunks.push(Buffer.from(value));
    return this;
  }

  u8(value: number): this {
    return this.bytes(Uint8Array.of(value));
  }

  u16(value: number): this {
    return this.#number(2, (chunk) => chunk.writeUInt16LE(value));
  }

  u32(value: number): this {
    return this.#number(4, (chunk) => chunk.writeUInt32LE(value));
  }

  u64(value: number): this {
    return this.#number(8, (chunk) => chunk.writeBigUInt64LE(BigInt(value)));
  }

  f64(value: number): this {
    return this.#number(8, (chunk) => chunk.writeDoubleLE(value));
  }

  /** Writes the address into the 16 bytes that every address takes. */
  address(value: Uint8Array): this {
    const chunk = Buffer.alloc(16);
    chunk.set(value);
    return this.bytes(chunk);
  }

  finish(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  #number(length: number, write: (chunk: Buffer) => void): this {
    const chunk = Buffer.alloc(length);
    write(chunk);
    return this.bytes(chunk);
  }
}

export class ControlReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  bytes(length: number): Buffer {
    const start = this.#offset;
    this.#offset += length;
    return this.#bytes.subarray(start, this.#offset);
  }

  u8(): number {
    return this.bytes(1).readUInt8();
  }

  u16(): number {
    return this.bytes(2).readUInt16LE();
  }

  u32(): number {
    return this.bytes(4).readUInt32LE();
  }

  u64(): number {
    return Number(this.bytes(8).readBigUInt64LE());
  }

  f64(): number {
    return this.bytes(8).readDoubleLE();
  }

  rest(): Buffer {
    return this.bytes(this.#bytes.length - this.#offset);
  }
}
