// The files of this tab, by a digest of their bytes. They are sent as they are.

import { TEXT } from './texts.js';

export const MAX_IMAGES = 20;
export const MAX_BYTES = 10 * 1024 * 1024;
const KINDS = [
  'image/png',
  'image/jpeg',
  'image/webp',
  'image/gif',
  'image/bmp',
];
export const ACCEPTED = KINDS.join(',');

// A picture of one pixel: the prompt's text does not depend on what it shows.
export const BLANK =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

const library = new Map();

/** The address of an image's bytes, as base64; undefined if it is missing. */
export const dataUrl = (id) => library.get(id)?.url;

export const nameOf = (id) => library.get(id)?.name;

/** Adds a File or Blob; returns {id, name}, or throws an Error to be shown. */
export async function addFile(file, name = file.name || 'image') {
  if (!KINDS.includes(file.type)) throw new Error(TEXT.images.kind(name));
  if (file.size > MAX_BYTES) throw new Error(TEXT.images.large(name));
  return addUrl(await readAsUrl(file), name);
}

/** Adds a data URL; returns {id, name}, or throws an Error to be shown. */
export async function addUrl(url, name = 'image') {
  if (!/^data:image\/[a-z+.-]+;base64,/.test(url))
    throw new Error(TEXT.images.kind(name));
  const id = await digest(url);
  if (!library.has(id)) {
    await decodes(url, name);
    library.set(id, { url, name });
  }
  return { id, name };
}

async function digest(url) {
  // Only in secure contexts is there crypto.subtle: not over plain HTTP from
  // another machine. There a short hash of all characters has to do.
  const bytes = new TextEncoder().encode(url);
  if (globalThis.crypto?.subtle) {
    const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...sum.slice(0, 12)]
      .map((b) => b.toString(16).padStart(2, '0'))
      .join('');
  }
  let [a, b] = [0x811c9dc5, 0xdeadbeef];
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x5bd1e995) ^ (b >>> 15);
  }
  return `${(a >>> 0).toString(16)}-${(b >>> 0).toString(16)}-${bytes.length}`;
}

function decodes(url, name) {
  const image = new Image();
  image.src = url;
  return image.decode().catch(() => {
    throw new Error(TEXT.images.damaged(name));
  });
}

function readAsUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(TEXT.images.damaged(file.name)));
    reader.readAsDataURL(file);
  });
}

/** The kind of an image whose base64 begins like this; '' if unknown. */
export function kindOfBase64(data) {
  const starts = {
    iVBOR: 'png',
    '/9j/': 'jpeg',
    UklGR: 'webp',
    R0lGO: 'gif',
    Qk: 'bmp',
  };
  const found = Object.keys(starts).find((start) => data.startsWith(start));
  return found ? starts[found] : '';
}

/** Base64 or a data URL as a data URL; '' for anything else, such as a path. */
export function asDataUrl(source) {
  if (source.startsWith('data:image/')) return source;
  const kind =
    source.length > 60 && /^[A-Za-z0-9+/=\s]+$/.test(source)
      ? kindOfBase64(source)
      : '';
  return kind ? `data:image/${kind};base64,${source.replace(/\s/g, '')}` : '';
}
