// Where it looked: the attention of the answer's tokens, over the pictures.

import { ask } from './api.js';
import { checkReady } from './ask.js';
import { bar } from './chart.js';
import { fill, h } from './dom.js';
import { dataUrl } from './images.js';
import { active, imagesOf } from './prompt.js';
import { attentionBody } from './request.js';
import { state } from './store.js';
import { taskPane } from './task.js';
import { TEXT } from './texts.js';

const SIDE = 220; // pixels of a picture's longer side
const HEAT = [255, 96, 0];
const MOST = 0.85; // of the colour, where attention is largest

const answered = () =>
  state.results.answer?.status === 'done' ? state.results.answer.text : '';

export function lookedPane() {
  const T = TEXT.looked;
  return taskPane({
    name: 'looked',
    title: T.title,
    hint: T.emptyHint,
    label: T.run,
    start,
    show,
    blocked: () => (answered().trim() ? '' : T.needs),
  });
}

async function start(signal) {
  const cards = structuredClone(state.cards);
  checkReady(cards);
  const body = attentionBody(cards, state.settings, answered());
  const found = await ask('v1/attention', body, signal);
  const read = active(cards).slice(found.mmicl.dropped_demonstrations);
  const pictures = read.flatMap(imagesOf).map(({ image }) => {
    const picture = new Image();
    picture.src = dataUrl(image);
    return picture.decode().then(() => picture);
  });
  return {
    tokens: found.tokens,
    mean: found.mean,
    first: active(cards).length - read.length,
    pictures: await Promise.all(pictures),
  };
}

function show(found) {
  const T = TEXT.looked;
  const views = h('div', { class: 'looked-views' });
  const choices = [{ token: T.all, ...found.mean }, ...found.tokens];
  const buttons = choices.map((one, i) => {
    const look = () => select(i);
    return h(
      'button',
      {
        type: 'button',
        class: i ? 'token' : 'quiet',
        onclick: look,
        onfocus: look,
        onmouseenter: look,
      },
      one.token || '·',
    );
  });

  function select(i) {
    found.chosen = i; // so that it stays when something else is drawn
    buttons.forEach((button, k) => button.setAttribute('aria-pressed', k === i));
    fill(views, shares(choices[i], found.first), maps(choices[i], found));
  }

  select(found.chosen ?? 0);
  return [
    h(
      'div',
      { class: 'looked-tokens', role: 'group', 'aria-label': T.tokens },
      buttons,
    ),
    h('p', { class: 'hint' }, T.caption),
    views,
  ];
}

function shares({ demonstrations, query }, first) {
  return h(
    'ol',
    { class: 'bars' },
    demonstrations.map((value, i) =>
      bar({ name: TEXT.cards.demonstration(first + i + 1), value }),
    ),
    bar({ name: TEXT.cards.query, value: query, strong: true }),
  );
}

/**
 * The pictures. The strongest patch of all has the full colour if its picture
 * has the largest share: where the decoder read words, pictures stay grey.
 */
function maps({ demonstrations, query, images, patches }, { pictures }) {
  const largest = Math.max(...demonstrations, query) || 1;
  // The root, since a tenth of the colour would not be seen.
  const fade = Math.sqrt(Math.min(Math.max(...images, 0) / largest, 1));
  const most = Math.max(...patches.flat(2)) || 1;
  return h(
    'div',
    { class: 'heat-maps' },
    pictures.map((picture, i) => {
      const says = TEXT.looked.picture(i, TEXT.percent(images[i]));
      return h(
        'figure',
        {},
        heatMap(picture, patches[i], (MOST * fade) / most, says),
        h('figcaption', {}, says),
      );
    }),
  );
}

/** strength: of the colour, for each unit of attention. */
function heatMap(picture, patches, strength, label) {
  const scale = SIDE / Math.max(picture.naturalWidth, picture.naturalHeight);
  const width = Math.max(1, Math.round(picture.naturalWidth * scale));
  const height = Math.max(1, Math.round(picture.naturalHeight * scale));
  const canvas = h('canvas', {
    width: String(width),
    height: String(height),
    role: 'img',
    'aria-label': label,
  });
  const context = canvas.getContext('2d');
  context.filter = 'grayscale(1) opacity(0.65)';
  context.drawImage(picture, 0, 0, width, height);
  context.filter = 'none';
  patches.forEach((row, y) =>
    row.forEach((value, x) => {
      // Patches keep their edges: what lies between them is not known.
      const [left, right] = [x, x + 1].map((k) => (k * width) / row.length);
      const [top, bottom] = [y, y + 1].map((k) => (k * height) / patches.length);
      context.fillStyle = `rgba(${[...HEAT, strength * value]})`;
      context.fillRect(left, top, right - left, bottom - top);
    }),
  );
  return canvas;
}
