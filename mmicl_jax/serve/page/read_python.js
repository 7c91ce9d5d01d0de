// Python with Turn(…): the literals in it are read, nothing is run.

import { TEXT } from './texts.js';

const TOKEN =
  /\s+|#[^\n]*|(?<prefix>[rRbBuU]{0,2})(?<quote>'''|"""|'|")|(?<name>[\p{L}_][\p{L}\p{N}_.]*)|(?<sign>[[\](){},=]|.)/suy;
const ESCAPES = { n: '\n', t: '\t', r: '\r', '\n': '', 0: '\0' };

/**
 * The turns of a text, and the style that it asks for: {turns, style}, where a
 * turn is {text, images, answer}. The last Turn is the query; a name stands for
 * the text that was given to it. Throws an Error.
 */
export function readPython(source) {
  const tokens = tokenise(source);
  const names = assigned(tokens);
  const turns = [];
  tokens.forEach((token, i) => {
    if (
      token.kind !== 'name' ||
      !/(^|\.)Turn$/.test(token.value) ||
      tokens[i + 1]?.value !== '('
    )
      return;
    turns.push(readTurn(tokens, i + 2, names));
  });
  const last = turns.at(-1);
  if (last && !last.answer && typeof names.get('expected') === 'string')
    last.answer = names.get('expected');
  const style = names.get('style') === 'chat' ? 'chat' : 'plain';
  return { turns, style };
}

function tokenise(source) {
  const found = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(source); match; match = TOKEN.exec(source)) {
    const { quote, prefix, name, sign } = match.groups;
    if (quote) {
      const text = literal(source, TOKEN.lastIndex, quote, /r/i.test(prefix));
      TOKEN.lastIndex = text.end;
      const last = found.at(-1);
      if (last?.kind === 'text')
        last.value += text.value; // neighbours are one
      else found.push({ kind: 'text', value: text.value });
    } else if (name) found.push({ kind: 'name', value: name });
    else if (sign) found.push({ kind: 'sign', value: sign });
  }
  return found;
}

function literal(source, start, quote, raw) {
  let value = '';
  let at = start;
  while (!source.startsWith(quote, at)) {
    if (at >= source.length)
      throw new Error(TEXT.open.python(TEXT.open.pythonEnd));
    if (source[at] !== '\\' || raw) {
      value += source[at++];
      continue;
    }
    const code = source
      .slice(at)
      .match(/^\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/);
    const letter = source[at + 1];
    value += code
      ? String.fromCodePoint(parseInt(code[1] ?? code[2] ?? code[3], 16))
      : (ESCAPES[letter] ?? (/['"\\]/.test(letter) ? letter : `\\${letter}`));
    at += code ? code[0].length : 2;
  }
  return { value, end: at + quote.length };
}

/** Texts that were given names, as in IMAGE_0 = '…'. */
function assigned(tokens) {
  const names = new Map();
  tokens.forEach((token, i) => {
    if (
      token.kind === 'name' &&
      tokens[i + 1]?.value === '=' &&
      tokens[i + 2]?.kind === 'text'
    )
      names.set(token.value, tokens[i + 2].value);
  });
  return names;
}

function readTurn(tokens, start, names) {
  const turn = { text: null, images: [], answer: '' };
  const order = ['text', 'images', 'answer'];
  let [at, place, depth] = [start, 0, 0];
  let field = order[0];
  for (; ; at += 1) {
    const token = tokens[at];
    if (!token) throw new Error(TEXT.open.python(TEXT.open.pythonEnd));
    if (token.kind === 'sign' && token.value === ')' && !depth) break;
    if (token.kind === 'sign' && '[('.includes(token.value)) depth += 1;
    else if (token.kind === 'sign' && '])'.includes(token.value)) depth -= 1;
    else if (token.value === ',' && token.kind === 'sign') {
      if (!depth) field = order[++place];
    } else if (
      token.kind === 'name' &&
      tokens[at + 1]?.value === '=' &&
      order.includes(token.value)
    ) {
      field = token.value;
      at += 1;
    } else if (token.kind === 'text' || names.has(token.value)) {
      const value =
        token.kind === 'text' ? token.value : names.get(token.value);
      if (field === 'images')
        turn.images.push(
          token.kind === 'name'
            ? {
                data: value,
                name: value.length > 60 ? token.value.toLowerCase() : value,
              }
            : value,
        );
      else turn[field] = value;
    }
  }
  if (turn.text === null)
    throw new Error(TEXT.open.python(TEXT.open.pythonTurn));
  return turn;
}
