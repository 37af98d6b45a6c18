/** A queue whose operations take the same time at any length. @internal */

interface Node<T> {
  readonly item: T;
  next: Node<T> | undefined;
}

export class Queue<T> {
  #first: Node<T> | undefined;
  #last: Node<T> | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get first(): T | undefined {
    return this.#first?.item;
  }

  push(item: T): void {
    const node = { item, next: undefined };
    if (this.#last === undefined) {
      this.#first = node;
    } else {
      this.#last.next = node;
    }
    this.#last = node;
    this.#length += 1;
  }

  /** Removes and returns the first item. */
  shift(): T | undefined {
    const node = this.#first;
    if (node !== undefined) {
      this.#first = node.next;
      this.#last = node.next === undefined ? undefined : this.#last;
      this.#length -= 1;
    }
    return node?.item;
  }
}
