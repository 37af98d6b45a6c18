/** Collects garbage in each of several turns of the event loop, until `isDone` returns true. */
export async function collectUntil(isDone, turns = 200) {
  for (let turn = 0; turn < turns && !isDone(); turn++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
