// The exact prompt, with thumbnails where images go, and its length.

import { ask } from './api.js';
import { lackOf } from './ask.js';
import { assemble } from './assemble.js';
import { fill, h, later } from './dom.js';
import { dataUrl, MAX_IMAGES } from './images.js';
import { active, imagesOf, isEmpty, numbers } from './prompt.js';
import { renderBody } from './request.js';
import { changed, on, state } from './store.js';
import { TEXT } from './texts.js';

let running = null;

export function preview() {
  const T = TEXT.preview;
  const body = h('div', {
    class: 'prompt-text',
    tabindex: '0',
    role: 'region',
    'aria-label': T.exact,
  });
  const note = h('div', { class: 'prompt-note', 'aria-live': 'polite' });
  const bar = h('span', { class: 'meter-bar' });
  const meter = h(
    'div',
    {
      class: 'meter',
      role: 'meter',
      'aria-label': T.meter,
      'aria-valuemin': '0',
    },
    bar,
  );
  const amount = h('span', { class: 'amount' });
  const ask = later(render, 250);
  on('cards text settings models', () => {
    if (state.rendered) state.rendered.stale = true;
    show();
    ask();
  });
  on('rendered', show);
  ask();

  function show() {
    const { style, format } = state.settings;
    const { prompt, spans } = assemble(state.cards, style, format);
    const found = state.rendered;
    // What the server says counts. What it would leave out is only here.
    const kept = found?.dropped
      ? assemble(active(state.cards).slice(found.dropped), style, format).prompt
      : prompt;
    const known = Boolean(found?.limit) && !state.cards.every(isEmpty);
    const own = !known || found.stale || [prompt, kept].includes(found.prompt);
    const shown = own ? prompt : found.prompt;
    const cut = known && own && found.dropped ? spans[found.dropped].start : 0;
    const images = active(state.cards).flatMap(imagesOf);
    const empty = state.cards.every(isEmpty);
    fill(
      body,
      empty
        ? h('p', { class: 'empty' }, T.empty)
        : [
            cut > 0 && h('del', {}, pieces(shown.slice(0, cut), images)),
            pieces(shown.slice(cut), images),
          ],
    );
    amount.textContent = known ? T.tokens(found.tokens, found.limit) : '';
    meter.hidden = !known;
    if (known) {
      bar.style.width = `${Math.min(100, (100 * found.tokens) / found.limit)}%`;
      meter.classList.toggle('over', found.tokens > found.limit);
      meter.setAttribute('aria-valuenow', found.tokens);
      meter.setAttribute('aria-valuemax', found.limit);
    }
    fill(note, empty ? null : notes(found));
  }

  return h(
    'section',
    { class: 'panel prompt-panel', 'aria-labelledby': 'prompt-heading' },
    h('header', {}, h('h2', { id: 'prompt-heading' }, T.heading), amount),
    meter,
    body,
    note,
  );
}

function pieces(value, images) {
  return value.split(/(<image\d+> ?图+|图+)/).map((piece) => {
    if (!piece.endsWith('图')) return piece;
    const number = Number(piece.match(/\d+/)?.[0]);
    const url = dataUrl(images[number]?.image);
    return h(
      'span',
      { class: 'place', title: images[number]?.name ?? '' },
      piece.replace(/图+$/, ''),
      url
        ? h('img', { src: url, alt: '图', title: images[number].name })
        : h('span', { class: 'hole' }, '图'),
    );
  });
}

function notes(found) {
  const T = TEXT.preview;
  if (!found) return null;
  if (found.error) return h('p', { class: 'bad' }, found.error.message);
  if (found.lack) return h('p', { class: 'hint' }, found.lack);
  const over = Math.max(found.tokens - found.limit, 0);
  if (!over && !found.dropped && !found.words) return null;
  const allowed = state.settings.truncate;
  return h(
    'p',
    { class: 'bad' },
    over ? T.over(over) : T.long,
    ' ',
    found.dropped || found.words
      ? T.dropping(found.dropped, found.words, allowed)
      : '',
    ' ',
    h(
      'button',
      {
        type: 'button',
        class: 'plain',
        onclick: () => {
          state.settings.truncate = !allowed;
          changed('settings');
        },
      },
      allowed ? T.forbid : T.allow,
    ),
  );
}

async function render() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  if (state.cards.every(isEmpty)) {
    state.rendered = null;
    changed('rendered');
    return;
  }
  const lack = lackOf(state.cards);
  if (lack) {
    state.rendered = { lack };
    changed('rendered');
    return;
  }
  const images = numbers(state.cards).size;
  try {
    if (images > MAX_IMAGES) throw new Error(TEXT.images.many(images));
    state.rendered = readRender(
      await ask(
        'v1/chat/completions/render',
        renderBody(state.cards, { ...state.settings, truncate: false }),
        signal,
      ),
    );
  } catch (error) {
    if (error.name === 'AbortError') return;
    state.rendered = { error };
  }
  changed('rendered');
}

/** What the page uses of an answer of /render. */
function readRender(found) {
  return {
    prompt: found.prompt_text,
    tokens: found.prompt_tokens,
    limit: found.max_model_len,
    dropped: found.dropped_demonstrations ?? 0,
    words: found.dropped_words ?? 0,
  };
}
