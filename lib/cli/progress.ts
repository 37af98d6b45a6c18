/** The progress bar on a terminal. */

import { SingleBar } from 'cli-progress';

const CLEAR_LINE = '\r\x1b[K';

/** Shows the progress of reading a file on standard error, if that is a terminal. */
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

  /** Clears the bar before lines on standard output. The next update draws it below them. */
  clear(): void {
    if (this.#bar !== undefined && process.stdout.isTTY) process.stderr.write(CLEAR_LINE);
  }

  stop(): void {
    this.#bar?.stop();
  }
}
