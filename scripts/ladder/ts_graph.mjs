// The graph of a folder of TypeScript: a node is a file, by its path in the folder.
//
// An edge is any import or re-export of another file of the folder, of types too: `import type`, `import('…')`.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';
import { Graph } from './graph.mjs';

/** What TypeScript reads where the emitted JavaScript has this ending. */
const SOURCES = [
  [/\.js$/, ['.ts', '.d.ts']],
  [/\.mjs$/, ['.mts']],
  [/\.cjs$/, ['.cts']],
  [/$/, ['.ts', '.mts', '.cts', '.d.ts', '/index.ts']],
];

/** The file that a relative specifier means, or undefined where it is none of TypeScript's. */
function resolve(from, specifier) {
  const path = join(dirname(from), specifier);
  return SOURCES.filter(([ending]) => ending.test(path))
    .flatMap(([ending, replacements]) => replacements.map((each) => path.replace(ending, each)))
    .find((candidate) => /\.[mc]?ts$/.test(candidate) && existsSync(candidate));
}

/** The literal that a node imports from, or undefined. */
function specifierOf(node) {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
  if (ts.isImportTypeNode(node)) return node.argument.literal;
  if (ts.isExternalModuleReference(node)) return node.expression;
  if (ts.isModuleDeclaration(node)) return node.name;
  const isCall =
    ts.isCallExpression(node) &&
    (node.expression.kind === ts.SyntaxKind.ImportKeyword ||
      node.expression.getText() === 'require');
  return isCall ? node.arguments[0] : undefined;
}

function* importsOf(file) {
  const source = ts.createSourceFile(
    file,
    readFileSync(file, 'utf8'),
    ts.ScriptTarget.Latest,
    true,
  );
  const nodes = [source];
  for (const node of nodes) {
    const specifier = specifierOf(node);
    if (specifier !== undefined && ts.isStringLiteralLike(specifier)) {
      const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
      const what = node.getText().replace(/\s+/g, ' ');
      yield { specifier: specifier.text, line, what };
    }
    nodes.push(...node.getChildren());
  }
}

/** @returns {Graph} of the folder's files and those of the folders in it */
export function graphOfTypeScript(folder) {
  const graph = new Graph();
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.[mc]?ts$/.test(name))
    .sort();
  for (const name of files) {
    graph.addNode(name);
    const file = join(folder, name);
    for (const { specifier, line, what } of importsOf(file)) {
      const target = specifier.startsWith('.') ? resolve(file, specifier) : undefined;
      if (target !== undefined) {
        graph.addEdge(name, relative(folder, target), `${file}:${line}`, what);
      }
    }
  }
  return graph;
}

/** A room is a folder; a file that is in none is a room alone. */
export const roomOf = (file) => file.split(/[\\/]/)[0];
