/** Runs `measure` once to warm up, then `runs` times; resolves with what the timed runs returned. */
export async function sample(runs, measure) {
  await measure();
  const samples = [];
  for (let run = 0; run < runs; run++) samples.push(await measure());
  return samples;
}

/** Seconds since an arbitrary start. */
export function now() {
  return performance.now() / 1000;
}

/** The value below which `share` (0…1) of the ascending `sorted` lie. */
export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
