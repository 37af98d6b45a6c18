/** The output of a replay: its events as they come, and the summary. */

import { printableJson } from '../base/text.js';
import type { BandwidthEntry, ConnectionEvent, NetVerdictEvent } from '../codec/events.js';
import { BandwidthEvent } from '../codec/events.js';
import { Verdict } from '../codec/verdicts.js';
import type { ReplayProgress } from '../simulator/network_options.js';
import { jsonLine } from './json_line.js';
import { write } from './output.js';
import { Progress } from './progress.js';
import { summaryTables, type PacketCounts } from './summary_tables.js';
import { Tally } from './tally.js';
import { recordLine, verdictLine } from './text.js';

const VERDICT_NAMES = new Map<number, string>(
  Object.entries(Verdict).map(([name, value]) => [value, name]),
);

/** Collects the lines of a replay; {@link ReplayReport.flush} prints them. */
export class ReplayReport {
  readonly #json: boolean;
  readonly #withPayload: boolean;
  readonly #tally = new Tally();
  readonly #progress: Progress;
  readonly #start = performance.now();
  #lines = '';

  constructor(json: boolean, withPayload: boolean) {
    this.#json = json;
    this.#withPayload = withPayload;
    this.#progress = new Progress(!json || !process.stdout.isTTY);
  }

  addDecision(event: ConnectionEvent, verdict: Verdict): void {
    const name = VERDICT_NAMES.get(verdict) ?? String(verdict);
    this.#tally.addConnection(event, name);
    this.#lines += this.#json ? jsonLine(event, this.#withPayload) : verdictLine(event, name);
  }

  /** Adds an event. Text output leaves out connection ends, and shows the events that report a problem. */
  addEvent(event: Exclude<NetVerdictEvent, ConnectionEvent>): void {
    if (event.type === 'bandwidth') {
      this.addBandwidth(event.entries);
      return;
    }
    if (event.type === 'connection-end') this.#tally.endConnection(event);
    if (event.type === 'lost') this.#tally.lost += event.count;
    if (this.#json) this.#lines += jsonLine(event, this.#withPayload);
    else if (event.type !== 'connection-end') this.#lines += recordLine(event);
  }

  addBandwidth(entries: readonly BandwidthEntry[]): void {
    this.#tally.addBandwidth(entries);
    if (!this.#json) return;
    for (const event of bandwidthEvents(entries)) this.#lines += jsonLine(event, false);
  }

  showProgress(progress: ReplayProgress): void {
    this.#progress.update(progress);
  }

  /** Prints the collected lines. */
  async flush(): Promise<void> {
    const lines = this.#lines;
    this.#lines = '';
    if (lines !== '') this.#progress.clear();
    await write(lines);
  }

  /** Prints the remaining lines and the summary. */
  async finish(packets: PacketCounts): Promise<void> {
    this.stop();
    this.#lines += this.#json
      ? `${printableJson(this.#summary(packets))}\n`
      : summaryTables(this.#tally, packets, (performance.now() - this.#start) / 1000);
    await this.flush();
  }

  /** Removes the progress bar from the terminal. */
  stop(): void {
    this.#progress.stop();
  }

  #summary(packets: PacketCounts): Record<string, unknown> {
    return {
      type: 'summary',
      connections: this.#tally.connections,
      bandwidth: this.#tally.bandwidthByProtocol(),
      packets,
      verdicts: this.#tally.verdicts,
      lost: Number(this.#tally.lost),
    };
  }
}

/** Groups the entries as the driver reports them: one event per protocol and IP version. */
function bandwidthEvents(entries: readonly BandwidthEntry[]): BandwidthEvent[] {
  const groups = new Map<string, BandwidthEntry[]>();
  for (const entry of entries) {
    const key = `${entry.protocol} ${entry.ipVersion}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [entry]);
    else group.push(entry);
  }
  return [...groups.values()].flatMap((group) =>
    group[0] === undefined
      ? []
      : [new BandwidthEvent(group[0].protocol, group[0].ipVersion, group)],
  );
}
