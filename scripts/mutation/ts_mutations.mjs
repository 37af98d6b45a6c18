// The mutations of a TypeScript source, from its syntax tree.
//
// What cannot change the library's behaviour is left out: types, texts and the joining of texts.
import ts from 'typescript';

const K = ts.SyntaxKind;

const BINARY = new Map([
  [K.LessThanToken, ['<=', '>=']],
  [K.LessThanEqualsToken, ['<', '>']],
  [K.GreaterThanToken, ['>=', '<=']],
  [K.GreaterThanEqualsToken, ['>', '<']],
  [K.EqualsEqualsEqualsToken, ['!==']],
  [K.ExclamationEqualsEqualsToken, ['===']],
  [K.AmpersandAmpersandToken, ['||']],
  [K.BarBarToken, ['&&']],
  [K.PlusToken, ['-']],
  [K.MinusToken, ['+']],
  [K.AsteriskToken, ['/']],
  [K.SlashToken, ['*']],
  [K.PercentToken, ['*']],
  [K.AmpersandToken, ['|']],
  [K.BarToken, ['&']],
  [K.CaretToken, ['&']],
  [K.LessThanLessThanToken, ['>>']],
  [K.GreaterThanGreaterThanToken, ['<<']],
  [K.GreaterThanGreaterThanGreaterThanToken, ['<<', '>>']],
  [K.PlusEqualsToken, ['-=']],
  [K.MinusEqualsToken, ['+=']],
  [K.BarEqualsToken, ['&=']],
  [K.AmpersandEqualsToken, ['|=']],
  [K.QuestionQuestionEqualsToken, ['=']],
]);
const RELATIONAL = /^(?:[<>]=?|[=!]==)$/;
const LOGICAL = /^(?:&&|\|\||\?\?=)$/;

const isText = (node) =>
  ts.isStringLiteralLike(node) ||
  ts.isTemplateExpression(node) ||
  (ts.isBinaryExpression(node) && (isText(node.left) || isText(node.right)));

/** The replacement of `node`, or of the text from it to `last`. */
const replaced = (kind, node, replacement, last = node) => ({
  kind,
  start: node.getStart(),
  end: last.getEnd(),
  replacement,
});

function* ofBinary(node) {
  if (!ts.isBinaryExpression(node)) return;
  const operator = node.operatorToken;
  if (operator.kind === K.PlusToken && isText(node)) return;
  const text = operator.getText();
  const kind = RELATIONAL.test(text)
    ? 'relational operator'
    : LOGICAL.test(text)
      ? 'logical operator'
      : 'arithmetic operator';
  for (const other of BINARY.get(operator.kind) ?? []) yield replaced(kind, operator, other);
}

function* ofUnary(node) {
  if (ts.isPrefixUnaryExpression(node) && node.operator === K.ExclamationToken) {
    yield replaced('negation', node, node.operand.getText());
  }
  if (!ts.isPrefixUnaryExpression(node) && !ts.isPostfixUnaryExpression(node)) return;
  const operand = node.operand.getText();
  const text = node.getText();
  if (text.includes('++')) yield replaced('arithmetic operator', node, text.replace('++', '--'));
  if (text === `${operand}--` || text === `--${operand}`)
    yield replaced('arithmetic operator', node, text.replace('--', '++'));
}

function* ofCondition(node) {
  const condition =
    ts.isIfStatement(node) || ts.isWhileStatement(node) || ts.isDoStatement(node)
      ? node.expression
      : ts.isForStatement(node) || ts.isConditionalExpression(node)
        ? node.condition
        : undefined;
  if (condition === undefined || isNegatedElsewhere(condition)) return;
  yield replaced('negation', condition, `!(${condition.getText()})`);
}

/** Another mutation has the same effect. */
const isNegatedElsewhere = (condition) =>
  condition.kind === K.TrueKeyword ||
  (ts.isPrefixUnaryExpression(condition) && condition.operator === K.ExclamationToken) ||
  (ts.isBinaryExpression(condition) && /^[=!]==$/.test(condition.operatorToken.getText()));

function* ofConstant(node) {
  if (ts.isNumericLiteral(node) || ts.isBigIntLiteral(node)) {
    const one = ts.isBigIntLiteral(node) ? '1n' : '1';
    yield replaced('constant', node, `(${node.getText()} + ${one})`);
    if (!/^0n?$/.test(node.text)) yield replaced('constant', node, `(${node.getText()} - ${one})`);
  }
  if (node.kind === K.TrueKeyword) yield replaced('constant', node, 'false');
  if (node.kind === K.FalseKeyword) yield replaced('constant', node, 'true');
}

function* ofStatement(node) {
  const isSuper =
    ts.isExpressionStatement(node) &&
    ts.isCallExpression(node.expression) &&
    node.expression.expression.kind === K.SuperKeyword;
  const isPlain =
    ts.isExpressionStatement(node) ||
    ts.isBreakStatement(node) ||
    ts.isContinueStatement(node) ||
    ts.isThrowStatement(node) ||
    (ts.isReturnStatement(node) && node.expression === undefined);
  if (isPlain && !isSuper) yield replaced('statement', node, ';');
}

function* ofReturn(node) {
  const value = ts.isReturnStatement(node)
    ? node.expression
    : ts.isArrowFunction(node) && !ts.isBlock(node.body)
      ? node.body
      : undefined;
  if (value === undefined || /^(?:undefined|true|false|[\d]+n?)$/.test(value.getText())) return;
  if (isText(value)) return;
  yield replaced('returned value', value, 'undefined as never');
}

function* ofCall(node) {
  if (!ts.isCallExpression(node) && !ts.isNewExpression(node)) return;
  if (/^Math\.(?:min|max)$/.test(node.expression.getText())) return; // their order has no effect
  const given = node.arguments ?? [];
  for (let second = 1; second < given.length; second++) {
    const [a, b] = [given[second - 1], given[second]];
    if (isText(a) || isText(b) || a.getText() === b.getText()) continue;
    const between = a.getSourceFile().text.slice(a.getEnd(), b.getStart());
    yield replaced('swapped arguments', a, b.getText() + between + a.getText(), b);
  }
}

const KINDS = [ofBinary, ofUnary, ofCondition, ofConstant, ofStatement, ofReturn, ofCall];

const isNamedScope = (node) =>
  (ts.isFunctionDeclaration(node) ||
    ts.isMethodDeclaration(node) ||
    ts.isAccessor(node) ||
    ts.isVariableDeclaration(node) ||
    ts.isPropertyDeclaration(node) ||
    ts.isClassDeclaration(node)) &&
  node.name !== undefined;

function* mutationsIn(node, file, within) {
  if (ts.isTypeNode(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node))
    return;
  const name = ts.isConstructorDeclaration(node) ? 'constructor' : node.name?.getText();
  const isScope = ts.isConstructorDeclaration(node) || isNamedScope(node);
  const place = isScope ? (within === '' ? name : `${within}.${name}`) : within;
  for (const changes of KINDS) {
    for (const each of changes(node)) yield { ...each, file, within: place };
  }
  for (const child of node.getChildren()) yield* mutationsIn(child, file, place);
}

/** The mutations of `source`. @returns {Generator<import('./mutation.mjs').Mutation>} */
export function* mutationsOfTypeScript(file, source) {
  yield* mutationsIn(ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true), file, '');
}
