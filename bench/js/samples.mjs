/** Runs `measure` once to warm up, then `runs` times. Resolves with the results of the timed runs. */
export async function sample(runs, measure) {
  await measure();
  const samples = [];
  for (let run = 0; run < runs; run++) samples.push(await measure());
  return samples;
}

/** The time in seconds since an arbitrary start. */
export function now() {
  return performance.now() / 1000;
}

/** The percentile of the ascending values `sorted` at `share`, from 0 to 1. */
export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
