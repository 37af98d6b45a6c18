// A graph of who needs whom: its circles, and the rungs of the ladder that it is without them.

/**
 * One reason for an edge.
 * @typedef {{ where: string, what: string }} Reason
 */

export class Graph {
  /** @type {Map<string, Map<string, Reason[]>>} node → needed node → reasons */
  #edges = new Map();

  addNode(node) {
    if (!this.#edges.has(node)) this.#edges.set(node, new Map());
  }

  /** A node that needs itself is no edge. */
  addEdge(from, to, where, what) {
    this.addNode(from);
    this.addNode(to);
    if (from === to) return;
    const needs = this.#edges.get(from);
    if (!needs.has(to)) needs.set(to, []);
    needs.get(to).push({ where, what });
  }

  get nodes() {
    return [...this.#edges.keys()].sort();
  }

  needs(node) {
    return [...this.#edges.get(node).keys()].sort();
  }

  reasons(from, to) {
    return this.#edges.get(from).get(to);
  }

  /** The same graph over groups of nodes: `groupOf` names the group of a node. */
  groupedBy(groupOf) {
    const groups = new Graph();
    for (const [from, needs] of this.#edges) {
      groups.addNode(groupOf(from));
      for (const [to, reasons] of needs) {
        for (const { where, what } of reasons) {
          groups.addEdge(groupOf(from), groupOf(to), where, what);
        }
      }
    }
    return groups;
  }

  /**
   * The strongly connected components by Tarjan's algorithm. A component comes after those that it needs.
   * @returns {string[][]}
   */
  components() {
    const index = new Map();
    const low = new Map();
    const stack = [];
    const components = [];
    const visit = (node) => {
      index.set(node, index.size);
      low.set(node, index.get(node));
      stack.push(node);
      for (const needed of this.needs(node)) {
        if (!index.has(needed)) visit(needed);
        if (stack.includes(needed)) low.set(node, Math.min(low.get(node), low.get(needed)));
      }
      if (low.get(node) === index.get(node)) {
        components.push(stack.splice(stack.indexOf(node)).sort());
      }
    };
    for (const node of this.nodes) if (!index.has(node)) visit(node);
    return components;
  }

  circles() {
    return this.components().filter((component) => component.length > 1);
  }

  /** A shortest way from a node back to itself: every node once, or undefined. */
  shortestCircle(start) {
    const ways = [[start]];
    const seen = new Set();
    for (const way of ways) {
      for (const needed of this.needs(way.at(-1))) {
        if (needed === start) return way;
        if (!seen.has(needed)) ways.push([...way, needed]);
        seen.add(needed);
      }
    }
    return undefined;
  }

  /** The nodes by rung: a node stands one rung above the highest that it needs; a circle shares a rung. */
  rungs() {
    const rungOf = new Map();
    for (const component of this.components()) {
      const needed = component
        .flatMap((node) => this.needs(node))
        .filter((node) => !component.includes(node));
      const rung = Math.max(0, ...needed.map((node) => rungOf.get(node) + 1));
      for (const node of component) rungOf.set(node, rung);
    }
    const rungs = [];
    for (const node of this.nodes) (rungs[rungOf.get(node)] ??= []).push(node);
    return rungs;
  }
}
