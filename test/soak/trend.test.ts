import { describe, expect, it } from 'vitest';

type Points = readonly (readonly [number, number])[];

const { slope } = (await import(new URL('trend.mjs', import.meta.url).href)) as {
  readonly slope: (points: Points) => number;
};

const line = (gradient: number, noise: (x: number) => number = () => 0): Points =>
  Array.from({ length: 12 }, (_, x) => [x, 200 + gradient * x + noise(x)]);

describe('the slope of', () => {
  it('a line is its gradient', () => {
    expect(slope(line(3))).toBeCloseTo(3);
    expect(slope(line(0))).toBe(0);
  });

  it('a line with outliers is nearly its gradient', () => {
    expect(slope(line(3, (x) => (x % 6 === 5 ? 100 : 0)))).toBeCloseTo(3, 0);
  });

  it('a leak is seen behind a saw of ten times its size', () => {
    const saw = (x: number): number => (x % 2 === 0 ? 10 : 0);
    expect(slope(line(1, saw))).toBeGreaterThan(0.4);
    expect(Math.abs(slope(line(0, saw)))).toBeLessThan(0.4);
  });

  it('too few points is no number', () => {
    expect(slope(line(3).slice(0, 2))).toBeNaN();
  });
});
