import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ipPacket } from '../support/packets.js';
import { bundledCapture } from './run_cli.js';

/** A folder for the captures of one test file. A file whose tests are only listed makes none. */
export class CaptureFolder {
  #path: string | undefined;

  get path(): string {
    this.#path ??= mkdtempSync(join(tmpdir(), 'netverdict-captures-'));
    return this.#path;
  }

  remove(): void {
    if (this.#path !== undefined) rmSync(this.#path, { recursive: true, force: true });
  }

  file(name: string): string {
    return join(this.path, name);
  }

  write(name: string, content: Uint8Array | string): string {
    writeFileSync(this.file(name), content);
    return this.file(name);
  }

  /** Runs editcap on the bundled capture: `options` precede the file names, `selection` follows them. */
  edit(name: string, options: readonly string[], selection: readonly string[] = []): string {
    const path = this.file(name);
    runTool('editcap', [...options, bundledCapture, path, ...selection]);
    return path;
  }

  /** The bundled capture with some frames repeated shortly after the first time. */
  withDuplicates(name: string, selection: readonly string[]): string {
    const path = this.file(name);
    const copies = this.edit(`${name}.copies`, ['-t', '0.002', '-r'], selection);
    runTool('mergecap', ['-F', 'pcap', '-w', path, bundledCapture, copies]);
    return path;
  }

  /** The first bytes of the bundled capture. */
  truncated(name: string, length: number): string {
    return this.write(name, readFileSync(bundledCapture).subarray(0, length));
  }
}

/** A whole TCP connection that sends `length` bytes: handshake, payload, both FINs. */
export function tcpConversation(
  local: { readonly address: string; readonly port: number },
  remote: { readonly address: string; readonly port: number },
  length: number,
): Uint8Array[] {
  const [syn, ack, fin, push] = [0x02, 0x10, 0x01, 0x08];
  const sent = (flags: number, sequence: number, acknowledgment: number, bytes = 0): Uint8Array =>
    ipPacket({
      source: local.address,
      sourcePort: local.port,
      destination: remote.address,
      destinationPort: remote.port,
      payload: new Uint8Array(bytes),
      tcp: { flags, sequence, acknowledgment },
    });
  const received = (flags: number, sequence: number, acknowledgment: number): Uint8Array =>
    ipPacket({
      source: remote.address,
      sourcePort: remote.port,
      destination: local.address,
      destinationPort: local.port,
      tcp: { flags, sequence, acknowledgment },
    });
  return [
    sent(syn, 100, 0),
    received(syn | ack, 500, 101),
    sent(ack, 101, 501),
    sent(push | ack, 101, 501, length),
    received(ack, 501, 101 + length),
    sent(fin | ack, 101 + length, 501),
    received(fin | ack, 501, 102 + length),
    sent(ack, 102 + length, 502),
  ];
}

const LINKTYPE_RAW = 101;

/** A pcap file of IP packets, one millisecond apart. */
export function rawCapture(...packets: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(0xffff, 16);
  header.writeUInt32LE(LINKTYPE_RAW, 20);
  const records = packets.flatMap((packet, index) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(index * 1000, 4);
    record.writeUInt32LE(packet.length, 8);
    record.writeUInt32LE(packet.length, 12);
    return [record, packet];
  });
  return Buffer.concat([header, ...records]);
}

function runTool(program: string, args: readonly string[]): void {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${result.stderr}`);
}
