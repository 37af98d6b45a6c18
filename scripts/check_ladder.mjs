// Checks that the files of kext/ and of lib/, and the rooms of lib/, need each other one way only. Fails on a circle.
//   node scripts/check_ladder.mjs [--print] [--c <folder>]… [--typescript <folder>]…
// With --print it also shows the ladder: each file stands above all that it needs.
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { graphOfC } from './ladder/c_graph.mjs';
import { graphOfTypeScript, roomOf } from './ladder/ts_graph.mjs';
import { root } from './testing/run.mjs';

const { values: options } = parseArgs({
  options: {
    print: { type: 'boolean', default: false },
    c: { type: 'string', multiple: true, default: [] },
    typescript: { type: 'string', multiple: true, default: [] },
  },
});
const isDefault = options.c.length + options.typescript.length === 0;
const c = isDefault ? [join(root, 'kext')] : options.c;
const typescript = isDefault ? [join(root, 'lib')] : options.typescript;

const short = (place) => relative(process.cwd(), place);

function printLadder(title, graph) {
  console.log(`${title}, from the bottom up:`);
  for (const [rung, nodes] of graph.rungs().entries()) {
    console.log(`${String(rung).padStart(3)}  ${nodes.join('  ')}`);
  }
}

/** The first include or import of an edge, and the first name that is used. */
function reasonsOf(graph, from, to) {
  const reasons = graph.reasons(from, to);
  const isInclude = ({ what }) => what.startsWith('#include');
  return [reasons.find(isInclude), reasons.find((reason) => !isInclude(reason))]
    .filter((reason) => reason !== undefined)
    .map(({ where, what }) => `${short(where)}: ${what}`);
}

function printCircle(graph, way) {
  console.log(`  ${[...way, way[0]].join(' → ')}`);
  for (const [index, from] of way.entries()) {
    const to = way[(index + 1) % way.length];
    for (const reason of reasonsOf(graph, from, to)) console.log(`    ${reason}`);
  }
}

/** Prints each circle, with a shortest way round through each of its members; returns how many there are. */
function check(title, graph) {
  if (graph.nodes.length === 0) throw new Error(`${title} has no files.`);
  if (options.print) printLadder(title, graph);
  const circles = graph.circles();
  for (const circle of circles) {
    console.log(`${title}: a circle of ${circle.length}: ${circle.join(', ')}`);
    const shown = new Set();
    for (const way of circle.map((node) => graph.shortestCircle(node))) {
      if (way.every((node) => shown.has(node))) continue;
      printCircle(graph, way);
      for (const node of way) shown.add(node);
    }
  }
  return circles.length;
}

let circles = 0;
for (const folder of c) circles += check(short(folder), graphOfC(folder));
for (const folder of typescript) {
  const graph = graphOfTypeScript(folder);
  circles += check(short(folder), graph);
  circles += check(`${short(folder)}, rooms`, graph.groupedBy(roomOf));
}
console.log(`${circles} circles`);
process.exitCode = circles > 0 ? 1 : 0;
