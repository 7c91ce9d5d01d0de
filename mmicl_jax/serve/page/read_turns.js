// Turns with slots become cards.

import { addUrl, asDataUrl } from './images.js';
import { imagePart, newCard, newKey, text } from './prompt.js';
import { TEXT } from './texts.js';

const DECLARED = /^image \{\d+\} is \{image\}\.$/m;
const SLOT = /\{\{(image|[0-9]+)\}\}|\{(image|[0-9]+)\}/g;

/**
 * Cards of turns = [{text, images, answer}], as of mmicl.Turn, and the format
 * of images with which they give the same prompt: {cards, format}. Images are
 * data URLs, base64, or names of files that are missing.
 */
export async function cardsOfTurns(turns) {
  const texts = turns.map(withSlots);
  const auto = texts.map(undeclared);
  const format = auto.includes(null) ? 'inline' : 'auto';
  const chosen = format === 'auto' ? auto : texts;
  const cards = [];
  for (const [i, turn] of turns.entries())
    cards.push(await cardOf(chosen[i], turn));
  return { cards, format };
}

/** Whether prompts, each a list of turns, have undeclared images only. */
export function isInline(prompts) {
  const texts = prompts.flat().map(withSlots);
  return (
    texts.some((value) => undeclared(value) === null) &&
    !texts.some((value) => DECLARED.test(value))
  );
}

/** The text; without slots its images are declared in front. */
function withSlots({ text: value, images }) {
  const slots = [...value.matchAll(SLOT)].filter(
    (match) => match[2] === 'image',
  ).length;
  if (slots === images.length) return value;
  if (slots) throw new Error(TEXT.open.slots);
  return images.map((_, i) => `image {${i}} is {image}.\n`).join('') + value;
}

/**
 * The text with declarations as bare images; null if others begin a line, which
 * `auto` would declare.
 */
function undeclared(value) {
  let [found, rest, place] = ['', value, 0];
  while (rest) {
    const declaration = `image {${place}} is {image}.\n`;
    if (rest.startsWith(declaration)) {
      found += '{image}';
      rest = rest.slice(declaration.length);
      place += 1;
      continue;
    }
    if (rest.startsWith('{image}')) return null;
    const end = rest.indexOf('\n') + 1 || rest.length;
    place += (rest.slice(0, end).match(/\{image\}/g) ?? []).length;
    found += rest.slice(0, end);
    rest = rest.slice(end);
  }
  return found;
}

async function cardOf(value, { images, answer }) {
  const sources = [];
  for (const [i, source] of images.entries())
    sources.push(await sourceOf(source, i));
  const keys = sources.map(() => newKey('image'));
  let place = 0;
  const next = () => {
    const at = place++;
    return imagePart(sources[at].image, sources[at].name, keys[at]);
  };
  return newCard(
    slotted(value, keys, next),
    slotted(answer ?? '', keys, () => text('')),
  );
}

async function sourceOf(source, i) {
  const data = source.data ?? source;
  const name = source.name ?? `image-${i}`;
  const url = asDataUrl(data);
  if (!url) return { image: null, name: data };
  const { id } = await addUrl(url, name);
  return { image: id, name };
}

function slotted(value, keys, image) {
  const parts = [];
  let end = 0;
  for (const match of value.matchAll(SLOT)) {
    parts.push(text(value.slice(end, match.index)));
    end = match.index + match[0].length;
    if (match[1]) parts.push(text(`{${match[1]}}`));
    else if (match[2] === 'image') parts.push(image());
    else if (keys[Number(match[2])])
      parts.push({ kind: 'mention', key: keys[Number(match[2])] });
    else parts.push(text(match[2]));
  }
  return [...parts, text(value.slice(end))];
}
