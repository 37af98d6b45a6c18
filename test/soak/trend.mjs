/** The trend of a measurement: what remains of it when single values vary. */

function median(values) {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Returns the slope of points [x, y]: the median of the slopes between any two of them (Theil and Sen).
 * Up to a quarter of the points may lie anywhere. It is NaN for fewer than three points.
 */
export function slope(points) {
  if (points.length < 3) return NaN;
  const slopes = points.flatMap(([x, y], index) =>
    points.slice(index + 1).map(([otherX, otherY]) => (otherY - y) / (otherX - x)),
  );
  return median(slopes);
}
