// The runs of this tab.

import { fill, h } from './dom.js';
import { dataUrl } from './images.js';
import { notify } from './notice.js';
import { active, imagesOf } from './prompt.js';
import { summary } from './settings.js';
import { on, remember, restore, state } from './store.js';
import { TEXT } from './texts.js';

export function historyPane() {
  const pane = h('div', { class: 'pane' });
  const show = () =>
    fill(
      pane,
      state.history.length
        ? h('ol', { class: 'history' }, state.history.slice(0, 50).map(entry))
        : h('div', { class: 'empty' }, h('p', {}, TEXT.history.empty)),
    );
  on('history', show);
  show();
  return pane;
}

function entry({ prompt, answer, at }) {
  const T = TEXT.history;
  const cards = active(prompt.cards);
  const images = cards.flatMap(imagesOf);
  const back = () => {
    remember();
    restore(prompt);
    notify(T.restored);
  };
  return h(
    'li',
    {},
    h(
      'button',
      { type: 'button', onclick: back, title: T.restore },
      h(
        'span',
        { class: 'thumbs', 'aria-hidden': 'true' },
        images
          .slice(-4)
          .map((part) => h('img', { src: dataUrl(part.image), alt: '' })),
      ),
      h(
        'span',
        { class: 'what' },
        h('span', { class: 'text' }, answer.text || TEXT.answer.nothing),
        h(
          'span',
          { class: 'hint' },
          [
            T.shots(cards.length - 1),
            T.images(images.length),
            summary(prompt.settings),
          ].join(' · '),
        ),
      ),
      h('time', { datetime: at.toISOString() }, at.toLocaleTimeString('en-GB')),
    ),
  );
}
