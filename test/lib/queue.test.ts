import { describe, expect, it } from 'vitest';
import { Queue } from '../../lib/base/queue.js';

describe('a queue', () => {
  it('gives items in their order, also while others come', () => {
    const queue = new Queue<number>();
    const given: (number | undefined)[] = [];
    for (let item = 0; item < 100; item++) {
      queue.push(item);
      if (item % 3 === 0) given.push(queue.shift());
    }
    while (queue.length > 0) given.push(queue.shift());
    expect(given).toEqual(Array.from({ length: 100 }, (_, item) => item));
  });

  it('is empty once every item was given, and may be used again', () => {
    const queue = new Queue<string>();
    expect(queue.shift()).toBeUndefined();
    queue.push('a');
    expect(queue.first).toBe('a');
    expect(queue.shift()).toBe('a');
    expect(queue).toMatchObject({ length: 0, first: undefined });
    queue.push('b');
    expect(queue).toMatchObject({ length: 1, first: 'b' });
  });
});
