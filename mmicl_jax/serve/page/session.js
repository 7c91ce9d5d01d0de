// A session as one file of JSON with its images, and as a link of its texts.

import { addUrl, dataUrl, nameOf } from './images.js';
import { imagesOf, newCard, newKey } from './prompt.js';
import { snapshot, state } from './store.js';
import { TEXT } from './texts.js';

const FORMAT = 'mmicl-session';
const LINK = '#p=';

/** The session as a text of JSON. */
export function saved() {
  const images = {};
  for (const { image } of state.cards.flatMap(imagesOf)) {
    if (image) images[image] = { name: nameOf(image), url: dataUrl(image) };
  }
  return JSON.stringify(
    { format: FORMAT, version: 1, ...snapshot(), images },
    null,
    1,
  );
}

/** What `saved` wrote, as store.restore takes it; throws an Error. */
export async function readSession(value) {
  const found = JSON.parse(value);
  if (found?.format !== FORMAT || !Array.isArray(found.cards))
    throw new Error(TEXT.open.unknown);
  const ids = new Map();
  for (const [id, { name, url }] of Object.entries(found.images ?? {})) {
    ids.set(id, (await addUrl(url, String(name))).id);
  }
  return clean(found, ids);
}

/** Only what a session may hold, with new keys: it may be of a stranger. */
function clean({ cards, candidates, settings }, ids) {
  const keys = new Map();
  const keyOf = (key) =>
    keys.get(key) ?? keys.set(key, newKey('image')).get(key);
  const part = (one) => {
    if (one.kind === 'image')
      return {
        kind: 'image',
        key: keyOf(one.key),
        image: ids.get(one.image) ?? null,
        name: String(one.name),
      };
    if (one.kind === 'mention') return { kind: 'mention', key: keyOf(one.key) };
    return { kind: 'text', text: String(one.text) };
  };
  const found = cards.map((card) =>
    newCard(card.parts.map(part), card.answer.map(part), Boolean(card.muted)),
  );
  const kept = Object.entries(settings ?? {}).filter(
    ([name, value]) =>
      typeof value === typeof state.settings[name] || name === 'seed',
  );
  return {
    cards: found.length ? found : [newCard()],
    candidates: (candidates ?? []).map(String),
    settings: Object.fromEntries(kept),
  };
}

/** The address of this page with the session's texts, without images. */
export async function linkOf() {
  const bytes = new TextEncoder().encode(JSON.stringify(snapshot()));
  const packed = await through(bytes, new CompressionStream('deflate-raw'));
  return location.href.split('#')[0] + LINK + toBase64Url(packed);
}

/** The session in a link, or null without one; throws an Error if damaged. */
export async function readLink(hash = location.hash) {
  if (!hash.startsWith(LINK)) return null;
  try {
    const bytes = await through(
      fromBase64Url(hash.slice(LINK.length)),
      new DecompressionStream('deflate-raw'),
    );
    return clean(JSON.parse(new TextDecoder().decode(bytes)), new Map());
  } catch {
    throw new Error(TEXT.open.link);
  }
}

async function through(bytes, change) {
  const stream = new Blob([bytes]).stream().pipeThrough(change);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function toBase64Url(bytes) {
  const characters = Array.from(bytes, (byte) =>
    String.fromCharCode(byte),
  ).join('');
  return btoa(characters)
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');
}

const fromBase64Url = (value) =>
  Uint8Array.from(atob(value.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
    c.charCodeAt(0),
  );
