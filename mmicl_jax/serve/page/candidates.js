// Candidates as bars, which follow the prompt as it is edited.

import { bar } from './chart.js';
import { fill, h, later } from './dom.js';
import { candidatesNow, expectedAnswer, rank, shares } from './rank.js';
import { changed, on, state } from './store.js';
import { TEXT } from './texts.js';

let reduce = 'sum';
let live = true;
let running = null;

/** visible() says whether the pane is seen, so that it asks only then. */
export function candidatesPane(visible) {
  const T = TEXT.candidates;
  const body = h('div', { class: 'task-body', 'aria-live': 'polite' });
  const pick = (value) =>
    h(
      'label',
      {},
      h('input', {
        type: 'radio',
        name: 'reduce',
        value,
        checked: reduce === value,
        onchange: () => {
          reduce = value;
          show();
        },
      }),
      h('span', {}, T[value]),
    );
  const follow = h(
    'label',
    { class: 'check' },
    h('input', {
      type: 'checkbox',
      checked: live,
      onchange: (event) => {
        live = event.target.checked;
        refresh();
      },
    }),
    h('span', {}, T.live),
  );
  const controls = h(
    'div',
    { class: 'controls' },
    h(
      'fieldset',
      { class: 'segments', title: T.reduceHint },
      h('legend', { class: 'unseen' }, T.reduce),
      pick('sum'),
      pick('mean'),
    ),
    follow,
    h(
      'button',
      { type: 'button', class: 'quiet', onclick: () => refresh(true) },
      T.run,
    ),
  );
  const soon = later(() => refresh(), 400);
  on('cards text candidates settings', () => {
    show();
    soon();
  });
  on('results', show);
  show();
  const pane = h(
    'div',
    { class: 'pane' },
    h('div', { class: 'pane-head' }, h('h3', {}, T.heading), controls),
    body,
  );
  return Object.assign(pane, { refresh });

  async function refresh(asked = false) {
    if (!asked && !(live && visible())) return;
    running?.abort();
    const candidates = candidatesNow();
    if (candidates.length < 2) return;
    running = new AbortController();
    const mine = running;
    body.setAttribute('aria-busy', 'true');
    try {
      const ranked = await rank(
        structuredClone(state.cards),
        state.settings,
        candidates,
        mine.signal,
      );
      state.results.candidates = { ranked, expected: expectedAnswer() };
    } catch (error) {
      if (error.name === 'AbortError') return;
      state.results.candidates = { error };
    }
    body.removeAttribute('aria-busy');
    changed('results');
  }

  function show() {
    const found = state.results.candidates;
    controls.hidden = candidatesNow().length < 2;
    if (controls.hidden) fill(body, h('p', { class: 'hint' }, T.empty));
    else if (found?.error)
      fill(
        body,
        h('p', { class: 'error', role: 'alert' }, found.error.message),
      );
    else if (found) fill(body, bars(found));
    else fill(body);
  }
}

function bars({ ranked, expected }) {
  const T = TEXT.candidates;
  const found = shares(ranked, reduce);
  const order = ranked.map((_, i) => i).sort((a, b) => found[b] - found[a]);
  return h(
    'ol',
    { class: 'bars' },
    order.map((i) => {
      const one = ranked[i];
      return bar({
        name: one.text,
        value: found[i],
        strong: one.text === expected,
        note: [
          one.text === expected && T.expected,
          T.logprob(one[reduce]),
          T.tokens(one.tokens),
        ]
          .filter(Boolean)
          .join(' · '),
      });
    }),
  );
}
