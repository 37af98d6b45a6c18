// The graph of a folder of C: a node is a concept, that is X.c with X.h, or a header alone.
//
// An edge is an include, or the use of a name that another concept defines: a function, data, a type or a macro.
// The text is enough to find definitions, because they begin outside of braces and every name has one owner.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Graph } from './graph.mjs';

const blank = (text) => text.replace(/[^\n]/g, ' ');
const COMMENT_OR_TEXT = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g;
const INCLUDE = /^[ \t]*#[ \t]*include[ \t]*"(\w+)\.h"/gm;
const DEFINE = /^[ \t]*#[ \t]*define[ \t]+(\w+)/gm;
const DIRECTIVE = /^[ \t]*#(?:[^\n]*\\\n)*[^\n]*/gm;

/** The text with comments, and texts where that is asked for, blanked: lines stay where they are. */
const withoutComments = (text, withTexts) =>
  text.replace(COMMENT_OR_TEXT, (match) =>
    withTexts && !match.startsWith('/') ? match : blank(match),
  );

const lineAt = (text, offset) => text.slice(0, offset).split('\n').length;

/** The declarations of a file outside of braces, as `{ head, body }`: the text before the braces, and in them. */
function* declarationsOf(code) {
  const text = code.replace(DIRECTIVE, blank).replace(/\bEXTERN_C_(?:START|END)\b/g, blank);
  let depth = 0;
  let head = '';
  let body = '';
  for (const character of text) {
    if (character === '}') depth--;
    if (depth > 0) body += character;
    else if (character !== '{' && character !== '}') head += character;
    if (character === '{') depth++;
    const isFunction = character === '}' && /\)\s*$/.test(head);
    if (depth === 0 && (character === ';' || isFunction)) {
      yield { head: head.trim(), body };
      head = '';
      body = '';
    }
  }
}

/** The name of a function is the one before the last parentheses; annotations come earlier. */
function functionName(head) {
  let depth = 0;
  for (let index = head.length - 1; index >= 0; index--) {
    if (head[index] === ')') depth++;
    if (head[index] === '(' && --depth === 0) return /(\w+)\s*$/.exec(head.slice(0, index))?.[1];
  }
  return undefined;
}

/** @typedef {{ names: string[], isLocal: boolean, alias?: [string, string] }} Definition */

/** @returns {Definition | undefined} of a declaration that defines nothing */
function definitionOf({ head, body }, isHeader) {
  const isLocal = !isHeader && /\bstatic\b/.test(head);
  const tag = /\b(?:struct|union|enum)\s+(\w+)/.exec(head)?.[1];
  const enumerators = () =>
    /\benum\b/.test(head) ? Array.from(body.matchAll(/(?:^|,)\s*(\w+)/g), ([, name]) => name) : [];
  if (/\btypedef\b/.test(head)) {
    const name =
      /\(\s*(?:\w+\s*)*\*\s*(\w+)\s*\)/.exec(head)?.[1] ?? /(\w+)\s*(?:\[.*)?;$/.exec(head)?.[1];
    if (name === undefined) return undefined;
    if (body === '' && tag !== undefined) return { names: [], isLocal, alias: [name, tag] };
    return { names: [name, ...(tag === undefined ? [] : [tag]), ...enumerators()], isLocal };
  }
  if (/\b(?:extern|static_assert)\b/.test(head)) return undefined;
  if (/\)\s*$/.test(head)) return { names: [functionName(head)], isLocal }; // it has a body
  const declared = head.replace(/[=;][\s\S]*/, '').replace(/\[[^\]]*\]/g, ' ');
  if (tag !== undefined && /\b(?:struct|union|enum)\s+\w+\s*$/.test(declared)) {
    return body === '' ? undefined : { names: [tag, ...enumerators()], isLocal };
  }
  if (declared.includes('(')) return undefined; // a function is declared
  const name = /(\w+)\s*$/.exec(declared)?.[1];
  return name === undefined ? undefined : { names: [name], isLocal };
}

function readFile(folder, name) {
  const original = readFileSync(join(folder, name), 'utf8');
  const code = withoutComments(original, false);
  const isHeader = name.endsWith('.h');
  const definitions = [...declarationsOf(code)]
    .map((declaration) => definitionOf(declaration, isHeader))
    .filter((definition) => definition !== undefined);
  const macros = Array.from(code.matchAll(DEFINE), ([, macro]) => macro);
  definitions.push({ names: macros, isLocal: !isHeader });
  return {
    place: join(folder, name),
    concept: name.replace(/\.[ch]$/, ''),
    included: withoutComments(original, true),
    code,
    definitions,
  };
}

/** Which concepts define a name that others may use. */
function ownersOf(files) {
  const owners = new Map();
  const add = (name, concept) => {
    if (!owners.has(name)) owners.set(name, new Set());
    owners.get(name).add(concept);
  };
  const aliases = [];
  for (const { concept, definitions } of files) {
    for (const { names, isLocal, alias } of definitions) {
      if (isLocal) continue;
      for (const name of names) add(name, concept);
      if (alias !== undefined) aliases.push({ concept, name: alias[0], tag: alias[1] });
    }
  }
  // A type that is only named belongs to the concept that says what is in it.
  for (const { concept, name, tag } of aliases) {
    for (const owner of owners.get(tag) ?? [concept]) add(name, owner);
  }
  return owners;
}

/** Whether a variable, a parameter or a member of this name is declared here: that is no use of the name. */
const isDeclarator = (code, index, name) =>
  /\b(?!return\b|else\b|goto\b|case\b)\w+\s+\**$/.test(
    code.slice(Math.max(0, index - 80), index),
  ) && /^\s*[;,)=[:]/.test(code.slice(index + name.length, index + name.length + 80));

/** The names that a concept defines for itself alone. */
function localNames(files, concept) {
  const own = files.filter((file) => file.concept === concept);
  return new Set(
    own
      .flatMap(({ definitions }) => definitions)
      .filter(({ isLocal }) => isLocal)
      .flatMap(({ names }) => names),
  );
}

/** @returns {Graph} of the folder's files, without those of the folders in it */
export function graphOfC(folder) {
  const files = readdirSync(folder)
    .filter((name) => /\.[ch]$/.test(name))
    .sort()
    .map((name) => readFile(folder, name));
  const concepts = new Set(files.map(({ concept }) => concept));
  const owners = ownersOf(files);
  const graph = new Graph();
  for (const { concept, place, included, code } of files) {
    graph.addNode(concept);
    for (const { 1: header, index } of included.matchAll(INCLUDE)) {
      const where = `${place}:${lineAt(included, index)}`;
      if (concepts.has(header)) graph.addEdge(concept, header, where, `#include "${header}.h"`);
    }
    const local = localNames(files, concept);
    // `x.Name` and `x->Name` are members, which may share a name.
    for (const { 0: name, index } of code.matchAll(/(?<!\.|->)\b[A-Za-z_]\w*/g)) {
      const definers = owners.get(name);
      if (definers === undefined || definers.has(concept) || local.has(name)) continue;
      if (isDeclarator(code, index, name)) continue;
      for (const owner of definers) {
        graph.addEdge(concept, owner, `${place}:${lineAt(code, index)}`, name);
      }
    }
  }
  return graph;
}
