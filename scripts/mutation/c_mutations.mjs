// The mutations of a C source that clang-format has formatted: a binary operator has white space on both sides.
//
// Only the bodies of functions change. What cannot change the driver's behaviour is left out: comments, texts,
// preprocessor lines, static assertions and log lines.

const blank = (text) => text.replace(/[^\n]/g, ' ');
const COMMENT_OR_TEXT = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g;
const DIRECTIVE = /^[ \t]*#(?:[^\n]*\\\n)*[^\n]*/gm;
const WITHOUT_EFFECT =
  /\b(?:static_assert|C_ASSERT|NT_ASSERT|PAGED_CODE|UNREFERENCED_PARAMETER|Log(?:Trace|Debug|Info|Warning|Error|Critical))\(/g;

/** The offset behind the parenthesis, bracket or brace that closes the one at `open`. */
function closing(code, open) {
  let depth = 0;
  for (let index = open; index < code.length; index++) {
    if ('([{'.includes(code[index])) depth++;
    if (')]}'.includes(code[index]) && --depth === 0) return index + 1;
  }
  return code.length;
}

/** The source with everything blanked that no mutation may touch. Offsets stay as they are. */
function codeOf(source) {
  let code = source.replace(COMMENT_OR_TEXT, blank).replace(DIRECTIVE, blank);
  for (const { 0: start, index } of [...code.matchAll(WITHOUT_EFFECT)]) {
    const end = code.indexOf(';', closing(code, index + start.length - 1)) + 1;
    code = code.slice(0, index) + blank(code.slice(index, end)) + code.slice(end);
  }
  return code;
}

/** Each function with the offsets of its body. */
function* functionsOf(code) {
  const outside = code.replace(/\bEXTERN_C_(?:START|END)\b/g, blank);
  let end = 0;
  for (let open = outside.indexOf('{', end); open >= 0; open = outside.indexOf('{', end)) {
    const head = outside.slice(end, open);
    const start = open;
    end = closing(outside, open);
    if (/\)\s*$/.test(head)) yield { ...signatureOf(head), start, end };
  }
}

/** The name of a function stands before the last parentheses; annotations come earlier. */
function signatureOf(head) {
  let depth = 0;
  for (let index = head.length - 1; index >= 0; index--) {
    if (head[index] === ')') depth++;
    if (head[index] === '(' && --depth === 0) {
      const [, before, name] = /([\s\S]*?)(\w+)\s*$/.exec(head.slice(0, index));
      return { name, isBoolean: /\bBOOLEAN\s*$/.test(before) };
    }
  }
  throw new Error(`no function: ${head}`);
}

const BINARY = {
  '<': ['<=', '>='],
  '<=': ['<', '>'],
  '>': ['>=', '<='],
  '>=': ['>', '<'],
  '==': ['!='],
  '!=': ['=='],
  '&&': ['||'],
  '||': ['&&'],
  '+': ['-'],
  '-': ['+'],
  '*': ['/'],
  '/': ['*'],
  '%': ['*'],
  '&': ['|'],
  '|': ['&'],
  '^': ['&'],
  '<<': ['>>'],
  '>>': ['<<'],
  '+=': ['-='],
  '-=': ['+='],
  '&=': ['|='],
  '|=': ['&='],
};
const kindOf = (operator) =>
  /^(?:[<>]=?|[=!]=)$/.test(operator)
    ? 'relational operator'
    : /^(?:&&|\|\|)$/.test(operator)
      ? 'logical operator'
      : 'arithmetic operator';

function* operators(body) {
  for (const { 1: operator, index } of body.matchAll(/(?<=\s)([-+*/%&|^<>=!]+)(?=\s)/g)) {
    for (const replacement of BINARY[operator] ?? []) {
      yield { kind: kindOf(operator), start: index, end: index + operator.length, replacement };
    }
  }
  for (const { 0: operator, index } of body.matchAll(/\+\+|--/g)) {
    const replacement = operator === '++' ? '--' : '++';
    yield { kind: 'arithmetic operator', start: index, end: index + 2, replacement };
  }
}

function* negations(body) {
  for (const { 0: head, index } of body.matchAll(/\b(?:if|while) \(/g)) {
    const start = index + head.length - 1;
    const end = closing(body, start);
    yield { kind: 'negation', start, end, replacement: `(!${body.slice(start, end)})` };
  }
  for (const { index } of body.matchAll(/!(?!=)/g)) {
    yield { kind: 'negation', start: index, end: index + 1, replacement: '' };
  }
}

function* constants(body) {
  for (const { 0: text, index } of body.matchAll(/(?<![\w.])(?:0[xX][\da-fA-F]+|\d+)[uUlL]*\b/g)) {
    const span = { kind: 'constant', start: index, end: index + text.length };
    yield { ...span, replacement: `(${text} + 1)` };
    if (Number.parseInt(text) !== 0) yield { ...span, replacement: `(${text} - 1)` };
  }
  for (const { 0: text, index } of body.matchAll(/\b(?:TRUE|FALSE)\b/g)) {
    const replacement = text === 'TRUE' ? 'FALSE' : 'TRUE';
    yield { kind: 'constant', start: index, end: index + text.length, replacement };
  }
}

/** A call, a jump, or a change of a place: a place has no white space outside of parentheses and brackets. */
const STATEMENT =
  /(?<=[;{}:]\s*)(?:(?:break|continue|return|goto \w+)(?=;)|(?:\(VOID\))?[A-Z]\w+(?=\()|\*?\(?(?:\([^;={}]*?\))?[\w.>[\]()*+-]+(?: [-+*&|^<>]*=(?!=)|\+\+|--))/g;

function* removals(body) {
  for (const { 0: head, index } of body.matchAll(STATEMENT)) {
    let end = index + head.length;
    while (end < body.length && body[end] !== ';') {
      end = '([{'.includes(body[end]) ? closing(body, end) : end + 1;
    }
    yield { kind: 'statement', start: index, end, replacement: '' };
  }
}

function* returns(body, isBoolean) {
  for (const { 1: value, index } of body.matchAll(/\breturn ([^;]+);/g)) {
    const start = index + 'return '.length;
    const span = { kind: 'returned value', start, end: start + value.length };
    if (isBoolean && !/^(?:TRUE|FALSE)$/.test(value)) {
      yield { ...span, replacement: `(BOOLEAN) !(${value})` };
    } else if (value === 'STATUS_SUCCESS') {
      yield { ...span, replacement: 'STATUS_UNSUCCESSFUL' };
    } else if (!isBoolean && !/^(?:0u?|NULL)$/.test(value)) {
      yield { ...span, replacement: '0' };
    }
  }
}

/** The offsets of a call's arguments. */
function argumentsOf(body, open) {
  const end = closing(body, open) - 1;
  const found = [];
  let start = open + 1;
  for (let index = start; index <= end; index++) {
    if (index === end || body[index] === ',') {
      const [, before, text] = /^(\s*)([\s\S]*?)\s*$/.exec(body.slice(start, index));
      found.push({ start: start + before.length, text });
      start = index + 1;
    } else if ('([{'.includes(body[index])) {
      index = closing(body, index) - 1;
    }
  }
  return found;
}

function* swaps(body) {
  for (const { 0: head, index } of body.matchAll(/\b[A-Z]\w*[a-z]\w*\(/g)) {
    const given = argumentsOf(body, index + head.length - 1);
    for (let second = 1; second < given.length; second++) {
      const [a, b] = [given[second - 1], given[second]];
      if (a.text === b.text) continue;
      const between = body.slice(a.start + a.text.length, b.start);
      yield {
        kind: 'swapped arguments',
        start: a.start,
        end: b.start + b.text.length,
        replacement: b.text + between + a.text,
      };
    }
  }
}

/** The mutations of `source`. @returns {Generator<import('./mutation.mjs').Mutation>} */
export function* mutationsOfC(file, source) {
  const code = codeOf(source);
  for (const { name, isBoolean, start, end } of functionsOf(code)) {
    const body = code.slice(start, end);
    for (const changes of [operators, negations, constants, removals, returns, swaps]) {
      for (const each of changes(body, isBoolean)) {
        yield { ...each, file, within: name, start: start + each.start, end: start + each.end };
      }
    }
  }
}
