/** What other products, the filter engine and its service do to the driver. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Network } from '../../lib/index.js';
import { nativeOf } from '../../lib/simulator/network.js';

/** The numbers of sim/wfp/hindrance.h. */
const Hindrance = {
  beginForeignTransaction: 0,
  endForeignTransaction: 1,
  refuse: 2,
  loseSessions: 3,
  stopService: 4,
  startService: 5,
} as const;

/** NTSTATUS values that the filter engine gives. */
export const Status = {
  success: 0,
  accessDenied: 0xc000_0022,
  insufficientResources: 0xc000_009a,
  rpcCallFailed: 0xc002_001b,
  sessionAborted: 0xc022_0010,
} as const;

const POLL_MS = 5;

export class FilterEngine {
  readonly #network: Network;

  constructor(network: Network) {
    this.#network = network;
  }

  /** Another product begins a transaction: the driver's own changes wait until it ends. */
  beginForeignTransaction(): void {
    this.#hinder(Hindrance.beginForeignTransaction);
  }

  endForeignTransaction(): void {
    this.#hinder(Hindrance.endForeignTransaction);
  }

  /** Every call of the driver fails with the status. `Status.success` ends this. */
  refuse(status: number): void {
    this.#hinder(Hindrance.refuse, status);
  }

  /** The driver's session and all its objects are gone, and the driver is not notified. */
  loseSessions(status: number = Status.sessionAborted): void {
    this.#hinder(Hindrance.loseSessions, status);
  }

  stopService(): void {
    this.#hinder(Hindrance.stopService);
  }

  startService(): void {
    this.#hinder(Hindrance.startService);
  }

  /** The number of layers that have filters. */
  get filteredLayers(): number {
    return nativeOf(this.#network).filteredLayers();
  }

  /** Resolves once that many layers have filters. */
  async filters(layers: number): Promise<void> {
    while (this.filteredLayers !== layers) await sleep(POLL_MS);
  }

  #hinder(hindrance: number, status = 0): void {
    nativeOf(this.#network).hinderEngine(hindrance, status);
  }
}
