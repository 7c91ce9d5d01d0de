// Settings: how to decode, and how the prompt is written.

import { fill, h } from './dom.js';
import { changed, on, state } from './store.js';
import { TEXT } from './texts.js';

const MOST_TOKENS = 512; // until the server says how many it gives
let forms = 0;

/** A form for `settings()`, an object of state; it calls `onchange`. */
export function settingsForm(settings, onchange, { whole = true } = {}) {
  const T = TEXT.settings;
  const id = `settings${++forms}`;
  let typed = null; // a field with what was not taken yet
  const set = (name, value) => {
    settings()[name] = value;
    onchange();
    show();
  };
  const row = (name, field) =>
    h(
      'label',
      { class: 'row', 'data-name': name },
      h('span', {}, T[name]),
      field,
    );
  const number = (name, attributes) => {
    const field = h('input', {
      type: 'number',
      inputmode: 'decimal',
      ...attributes,
      onchange: () => {
        if (field.value === '' && name !== 'seed') return show();
        const value = Math.min(
          Math.max(Number(field.value), Number(attributes.min)),
          Number(field.max),
        );
        return set(name, field.value === '' ? '' : value);
      },
    });
    return row(name, field);
  };
  const choice = (name, options) =>
    row(
      name,
      h(
        'select',
        { onchange: (event) => set(name, event.target.value) },
        options.map((option) =>
          h('option', { value: option }, T[option] ?? option),
        ),
      ),
    );
  const model = row(
    'model',
    h('select', { onchange: (event) => set('model', event.target.value) }),
  );
  const rows = [
    !whole && model,
    choice('mode', ['greedy', 'sample', 'beam']),
    number('maxTokens', { min: 1, max: MOST_TOKENS, step: 1 }),
    number('temperature', { min: 0.05, max: 5, step: 0.05 }),
    whole && number('topP', { min: 0.01, max: 1, step: 0.01 }),
    whole && number('topK', { min: 0, max: 1000, step: 1 }),
    number('seed', { min: 0, max: 2 ** 31, step: 1, placeholder: T.seedHint }),
    number('beams', { min: 2, max: 16, step: 1 }),
    choice('style', ['plain', 'chat']),
    whole && choice('format', ['auto', 'declare', 'inline']),
    whole &&
      row(
        'stop',
        h('textarea', {
          rows: '1',
          onchange: (event) => set('stop', event.target.value),
        }),
      ),
    whole &&
      row(
        'apiKey',
        h('input', {
          type: 'password',
          autocomplete: 'off',
          placeholder: T.apiKeyHint,
          onchange: (event) => {
            state.apiKey = event.target.value.trim();
            changed('key', 'settings');
          },
        }),
      ),
    whole &&
      h(
        'label',
        { class: 'check', 'data-name': 'truncate' },
        h('input', {
          type: 'checkbox',
          onchange: (event) => set('truncate', event.target.checked),
        }),
        h('span', {}, T.truncate),
      ),
  ].filter(Boolean);
  const form = h(
    'div',
    { class: 'settings', id, role: 'group', 'aria-label': TEXT.run.settings },
    rows,
  );
  form.addEventListener('input', ({ target }) => (typed = target));
  form.addEventListener('change', () => (typed = null), true);
  form.addEventListener('focusout', () => (typed = null));

  function show() {
    const now = settings();
    const only = {
      temperature: 'sample',
      topP: 'sample',
      topK: 'sample',
      seed: 'sample',
      beams: 'beam',
    };
    if (!whole)
      fill(
        model.querySelector('select'),
        state.models.map(({ id: name }) =>
          h('option', { value: name }, shortName(name)),
        ),
      );
    for (const element of rows) {
      const { name } = element.dataset;
      if (name in only) element.hidden = now.mode !== only[name];
      const field = element.querySelector('input, select, textarea');
      if (name === 'maxTokens') field.max = state.mostTokens ?? MOST_TOKENS;
      if (field === typed) continue;
      if (field.type === 'checkbox') field.checked = now[name];
      else if (name !== 'apiKey') field.value = now[name];
    }
  }
  on('settings models', show);
  show();
  return form;
}

/** A model's name; of one that is called by its path only the end. */
export const shortName = (name) => name.split('/').slice(-2).join('/');

export const summary = (settings) => TEXT.run.summary[settings.mode](settings);
