// The prompt as data: cards of parts, and how they are numbered.
//
// A card is {id, parts, answer, muted}; the last card is the query. A part is
// {kind: 'text', text}, {kind: 'image', key, image, name} or {kind: 'mention',
// key}, which is the number of the image with that key. `image` names a file in
// images.js; it is null while the file is missing.

let count = 0;

/** A name that nothing else in this tab has. */
export const newKey = (start = 'k') => `${start}${++count}`;

/** A new card. */
export function newCard(parts = [], answer = [], muted = false) {
  return {
    id: newKey('card'),
    parts: tidy(parts),
    answer: tidy(answer),
    muted,
  };
}

export const text = (value) => ({ kind: 'text', text: value });

/** An image's place in a text. */
export function imagePart(image, name, key = newKey('image')) {
  return { kind: 'image', key, image, name };
}

/** Parts without empty texts, and with neighbouring texts joined. */
export function tidy(parts) {
  const found = [];
  for (const part of parts) {
    const last = found.at(-1);
    if (part.kind !== 'text') found.push(part);
    else if (!part.text) continue;
    else if (last?.kind === 'text')
      found[found.length - 1] = text(last.text + part.text);
    else found.push(part);
  }
  return found;
}

/** A copy whose images have keys of their own; mentions follow them. */
export function copyCard(card) {
  const keys = new Map();
  for (const part of card.parts) {
    if (part.kind === 'image') keys.set(part.key, newKey('image'));
  }
  const copied = (part) => ({
    ...part,
    ...(part.key && { key: keys.get(part.key) ?? part.key }),
  });
  return newCard(card.parts.map(copied), card.answer.map(copied), card.muted);
}

/** The cards that the model reads. */
export const active = (cards) =>
  cards.filter((card, i) => !card.muted || i === cards.length - 1);

export const imagesOf = (card) =>
  card.parts.filter((part) => part.kind === 'image');

/** The number of each image in the prompt, by its key. */
export function numbers(cards) {
  const keys = active(cards).flatMap((card) =>
    imagesOf(card).map((part) => part.key),
  );
  return new Map(keys.map((key, i) => [key, i]));
}

/** The text of parts that hold no images. */
export function plain(parts, numbered) {
  return parts
    .map((part) =>
      part.kind === 'text'
        ? part.text
        : part.kind === 'mention'
          ? String(numbered.get(part.key) ?? '?')
          : '',
    )
    .join('');
}

export const isEmpty = (card) =>
  !card.parts.some((part) => part.kind === 'image' || part.text?.trim());

/** Whether each image of the card begins a line, by its key. */
export function declared(card) {
  const found = new Map();
  let fresh = true;
  for (const part of card.parts) {
    if (part.kind === 'image') found.set(part.key, fresh);
    else if (part.kind === 'mention') fresh = false;
    else fresh = part.text.endsWith('\n');
  }
  return found;
}

const MENTION =
  /\b[Ii]mages [0-9]+(?:(?:, and |, | and | or | to )[0-9]+)+(?![0-9A-Za-z_]|\.[0-9])|\b[Ii]mage [0-9]+(?![0-9A-Za-z_]|\.[0-9])/g;

/** Parts in which typed numbers, as in 'image 2', follow their images. */
export function withMentions(parts, numbered) {
  const keys = new Map([...numbered].map(([key, number]) => [number, key]));
  return tidy(
    parts.flatMap((part) =>
      part.kind === 'text' ? mentionsIn(part.text, keys) : [part],
    ),
  );
}

function mentionsIn(value, keys) {
  const found = [];
  let end = 0;
  for (const match of value.matchAll(MENTION)) {
    for (const digits of match[0].matchAll(/[0-9]+/g)) {
      if (!keys.has(Number(digits[0]))) continue;
      const start = match.index + digits.index;
      found.push(text(value.slice(end, start)), {
        kind: 'mention',
        key: keys.get(Number(digits[0])),
      });
      end = start + digits[0].length;
    }
  }
  return [...found, text(value.slice(end))];
}
