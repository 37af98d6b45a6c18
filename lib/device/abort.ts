/** Abort signals of any realm. @internal */

/**
 * Runs `work` with a signal that is aborted as soon as one of `signals` is.
 *
 * Signals of another realm are fine, unlike with `AbortSignal.any`. No listener stays behind.
 */
export async function untilAborted<T>(
  signals: readonly (AbortSignal | undefined)[],
  work: (stop: AbortSignal) => Promise<T>,
): Promise<T> {
  const stopping = new AbortController();
  const stop = (): void => {
    stopping.abort();
  };
  for (const signal of signals) {
    signal?.addEventListener('abort', stop, { once: true });
  }
  try {
    if (signals.some((signal) => signal?.aborted === true)) {
      stop();
    }
    return await work(stopping.signal);
  } finally {
    for (const signal of signals) {
      signal?.removeEventListener('abort', stop);
    }
  }
}
