// The prompt as curl, Python or a MIC record.

import { assemble, toMessages, toTurn } from './assemble.js';
import { dataUrl } from './images.js';
import { active, imagesOf, numbers } from './prompt.js';
import { chatBody } from './request.js';

const base64 = (part) => (dataUrl(part.image) ?? '').split(',')[1] ?? '';

/** A MIC record as one line of JSON; missing images keep their names. */
export function micRecord(cards, settings) {
  const { prompt, target } = assemble(cards, settings.style, settings.format);
  const images = active(cards)
    .flatMap(imagesOf)
    .map((part) => base64(part) || part.name);
  return JSON.stringify({
    input_text: prompt,
    input_image: images,
    output_text: target,
  });
}

/** A command for a shell. */
export function curlCommand(cards, settings, key, origin = location.origin) {
  const body = JSON.stringify(chatBody(cards, settings), null, 2);
  return (
    [
      `curl ${origin}/v1/chat/completions \\`,
      "  -H 'content-type: application/json' \\",
      ...(key ? ['  -H "authorization: Bearer $MMICL_API_KEY" \\'] : []),
      "  -d @- <<'JSON'",
      body,
      'JSON',
    ].join('\n') + '\n'
  );
}

/** A text as a literal of Python. */
export function quoted(value) {
  const inner = JSON.stringify(value)
    .slice(1, -1)
    .replaceAll('\\"', '"')
    .replaceAll("'", "\\'");
  return `'${inner}'`;
}

/** Names of images as Python has them, and the lines that define them. */
function constants(parts, valueOf) {
  const names = new Map();
  for (const part of parts) {
    if (!names.has(part.image ?? part.name))
      names.set(part.image ?? part.name, {
        name: `IMAGE_${names.size}`,
        value: valueOf(part),
        from: part.name,
      });
  }
  const nameOf = (part) => names.get(part.image ?? part.name).name;
  const lines = [...names.values()].map(
    ({ name, value, from }) =>
      `${name} = ${quoted(value)}  # ${from.replace(/[\r\n]/g, ' ')}`,
  );
  return { nameOf, lines };
}

/** A number that Python takes as one with a fraction. */
const float = (value) => (Number.isInteger(value) ? `${value}.0` : value);

const stopsOf = (settings) => settings.stop.split('\n').filter(Boolean);

function options(settings) {
  const found = [['max_new_tokens', settings.maxTokens]];
  if (settings.mode === 'sample') {
    found.push(
      ['do_sample', 'True'],
      ['temperature', float(settings.temperature)],
      ['top_p', float(settings.topP)],
      ['top_k', settings.topK],
    );
    if (settings.seed !== '') found.push(['seed', settings.seed]);
  }
  if (settings.mode === 'beam') found.push(['num_beams', settings.beams]);
  const stops = stopsOf(settings);
  if (stops.length) found.push(['stop', python(stops)]);
  return found.map(([name, value]) => `  ${name}=${value},`);
}

/** Lines that make `answer` of query and shots, as the server does. */
function asked(settings) {
  const style =
    settings.style === 'plain' ? [] : [`  style=${quoted(settings.style)},`];
  if (settings.mode !== 'sample')
    return [
      '[answer] = model.generate(',
      ...['  query,', '  shots,', ...style, ...options(settings)],
      ')',
    ];
  return [
    'prompt = model.prompt(',
    ...['  query,', '  shots,', ...style],
    ')',
    'options = mmicl_jax.Options(',
    ...options(settings),
    ')',
    "# The server's first choice is row 0 of the seed.",
    '[answer] = model.answers([prompt], options, numpy.uint32([0]))',
  ];
}

/** Lines that show its text; the server leaves stop texts out. */
function printed(settings) {
  const stops = stopsOf(settings);
  if (!stops.length) return ['print(answer.text)'];
  return [
    'text = answer.text',
    `for stop in ${python(stops)}:`,
    '  text = text.partition(stop)[0]',
    'print(text)',
  ];
}

/** Python for mmicl_jax; root: where the checkpoint lies. */
export function turnPython(cards, settings, root) {
  const numbered = numbers(cards);
  const turns = active(cards).map((card) =>
    toTurn(card, numbered, settings.format),
  );
  const { nameOf, lines } = constants(
    turns.flatMap((turn) => turn.images),
    (part) => base64(part) || part.name,
  );
  const turn = ({ text, images, answer }, isQuery) => [
    'mmicl_jax.Turn(',
    `  ${quoted(text)},`,
    `  [${images.map(nameOf).join(', ')}],`,
    ...(answer && !isQuery ? [`  ${quoted(answer)},`] : []),
    ')',
  ];
  const indent = (rows) => rows.map((row) => `  ${row}`);
  const shots = turns
    .slice(0, -1)
    .flatMap((one) => indent(turn(one, false)).join('\n') + ',');
  const expected = turns.at(-1).answer;
  return [
    'import mmicl_jax',
    ...(settings.mode === 'sample' ? ['import numpy'] : []),
    '',
    ...(lines.length ? [...lines, ''] : []),
    'shots = [',
    ...shots,
    ']',
    `query = ${turn(turns.at(-1), true).join('\n')}`,
    ...(expected ? [`expected = ${quoted(expected)}`] : []),
    '',
    `model = mmicl_jax.load(${quoted(root)})`,
    ...asked(settings),
    ...printed(settings),
    '',
  ].join('\n');
}

/** Python for the official client. */
export function openaiPython(cards, settings, key, origin = location.origin) {
  const parts = active(cards).flatMap(imagesOf);
  const { nameOf, lines } = constants(
    parts,
    (part) => dataUrl(part.image) ?? part.name,
  );
  const {
    messages: _,
    max_completion_tokens,
    model,
    stop,
    temperature,
    top_p,
    seed,
    ...extra
  } = chatBody(cards, settings);
  const named = Object.entries({
    model,
    max_completion_tokens,
    stop,
    temperature,
    top_p,
    seed,
  }).filter(([, value]) => value !== undefined);
  const messages = toMessages(cards, (part) => `\u0000${nameOf(part)}\u0000`);
  const literal = (value) =>
    python(value).replace(/'\\u0000(IMAGE_\d+)\\u0000'/g, '$1');
  return [
    ...(key ? ['import os', ''] : []),
    'import openai',
    '',
    ...(lines.length ? [...lines, ''] : []),
    `client = openai.OpenAI(base_url=${quoted(`${origin}/v1`)}, api_key=${key ? "os.environ['MMICL_API_KEY']" : "'none'"})`,
    'messages = [',
    ...messages.map((message) => `  ${literal(message)},`),
    ']',
    'answer = client.chat.completions.create(',
    '  messages=messages,',
    ...named.map(([name, value]) => `  ${name}=${python(value)},`),
    ...(Object.keys(extra).length ? [`  extra_body=${python(extra)},`] : []),
    ')',
    'print(answer.choices[0].message.content)',
    '',
  ].join('\n');
}

function python(value) {
  if (typeof value === 'string') return quoted(value);
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (value === null) return 'None';
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (typeof value === 'object')
    return `{${Object.entries(value)
      .map(([name, item]) => `${quoted(name)}: ${python(item)}`)
      .join(', ')}}`;
  return String(value);
}

/** The same with long base64 shortened, to be looked at. */
export const shortCode = (value) =>
  value.replace(
    /[A-Za-z0-9+/=]{120,}/g,
    (found) => `${found.slice(0, 24)}…${found.slice(-8)}`,
  );
