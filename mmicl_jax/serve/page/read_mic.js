// MIC records: a finished prompt is divided into demonstrations and query.

import { TEXT } from './texts.js';

const SPAN = /(?:<image([0-9]+)> ?)?图+/g;
const MENTION =
  /\b[Ii]mages [0-9]+(?:(?:, and |, | and | or | to )[0-9]+)+(?![0-9A-Za-z_]|\.[0-9])|\b[Ii]mage [0-9]+(?![0-9A-Za-z_]|\.[0-9])|<image[0-9]+>/g;

/** The records of a file's text; throws an Error that names the line. */
export function readRecords(value) {
  const found = [];
  value.split('\n').forEach((line, i) => {
    if (!line.trim()) return;
    let record;
    try {
      record = JSON.parse(line);
    } catch (error) {
      throw new Error(TEXT.open.record(i + 1, error.message));
    }
    const images =
      typeof record?.input_image === 'string'
        ? [record.input_image].filter(Boolean)
        : record?.input_image;
    if (typeof record?.input_text !== 'string' || !Array.isArray(images))
      throw new Error(TEXT.open.record(i + 1, TEXT.open.fields));
    const places = [...record.input_text.matchAll(SPAN)].length;
    if (places !== images.length)
      throw new Error(
        TEXT.open.record(i + 1, TEXT.open.places(places, images.length)),
      );
    found.push({
      prompt: record.input_text,
      images,
      answer: record.output_text ?? '',
      id: record.id ?? i + 1,
    });
  });
  return found;
}

/**
 * The turns of a record: {style, turns}. Where demonstrations cannot be told
 * apart, the whole prompt is one turn.
 */
export function turnsOfRecord({ prompt, images, answer }) {
  const chat = prompt.startsWith('User: ');
  const paragraphs = chat ? prompt.split(/\n(?=User: )/) : prompt.split('\n\n');
  const turns =
    paragraphs.length > 1 && divided(paragraphs, images, answer, chat);
  if (turns) return { style: chat ? 'chat' : 'plain', turns };
  return { style: 'plain', turns: [turnOf(prompt, images, 0, answer)] };
}

function divided(paragraphs, images, answer, chat) {
  let first = 0;
  const turns = paragraphs.map((paragraph, i) => {
    const count = [...paragraph.matchAll(SPAN)].length;
    const last = i === paragraphs.length - 1;
    const turn = turnOf(
      paragraph,
      images.slice(first, first + count),
      first,
      last ? answer : '',
    );
    first += count;
    return turn;
  });
  const query = turns.at(-1);
  if (chat) query.text = query.text.replace(/^User: /, '');
  if (chat) query.answer = query.answer.replace(/^Bot: /, '');
  for (const turn of turns.slice(0, -1)) {
    const pair = chat
      ? turn.text.match(/^User: (.*)\nBot: (.*?)\n?$/s)?.slice(1)
      : cut(turn.text, query.text.trimEnd());
    if (!pair) return null;
    [turn.text, turn.answer] = pair;
  }
  return turns;
}

/** A paragraph as a turn: references to its own images become slots. */
function turnOf(paragraph, images, first, answer) {
  const slots = (value) =>
    value.replace(/\{(image|[0-9]+)\}/g, '{{$1}}').replace(MENTION, (mention) =>
      mention.replace(/[0-9]+/g, (digits) => {
        const own = Number(digits) - first;
        return own >= 0 && own < images.length ? `{${own}}` : digits;
      }),
    );
  const text = paragraph
    .replace(SPAN, '图')
    .split('图')
    .map(slots)
    .join('{image}');
  return { text, images, answer: slots(answer) };
}

/** A demonstration ends its question with the words that end the query's. */
function cut(value, query) {
  for (const { index } of query.matchAll(/\S+/g)) {
    const end = query.slice(index);
    const at = ` ${value}`.lastIndexOf(` ${end} `);
    const line = `\n${value}`.lastIndexOf(`\n${end} `);
    const start = Math.max(at, line);
    if (start >= 0)
      return [
        value.slice(0, start + end.length),
        value.slice(start + end.length + 1),
      ];
  }
  return null;
}
