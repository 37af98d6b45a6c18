/** The progress bar of a terminal. */

import { SingleBar } from 'cli-progress';

const CLEAR_LINE = '\r\x1b[K';

/** Shows how far a file has been read, on standard error, where that is a terminal. */
export class Progress {
  readonly #bar: SingleBar | undefined;

  constructor(visible: boolean) {
    if (!visible || !process.stderr.isTTY) return;
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: '{bar} {percentage} %  {frames} frames',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
      clearOnComplete: true,
      forceRedraw: true,
    });
    this.#bar.start(1, 0, { frames: 0 });
  }

  update(progress: { frames: number; bytes: number; totalBytes: number }): void {
    this.#bar?.setTotal(Math.max(1, progress.totalBytes));
    this.#bar?.update(progress.bytes, { frames: progress.frames });
  }

  /** Makes room for lines on standard output; the next update draws the bar below them. */
  clear(): void {
    if (this.#bar !== undefined && process.stdout.isTTY) process.stderr.write(CLEAR_LINE);
  }

  stop(): void {
    this.#bar?.stop();
  }
}
