// Short messages: shown for a while, and read out to screen readers.

import { fill, h } from './dom.js';
import { TEXT } from './texts.js';

const shown = h('div', { class: 'notices' });
const polite = h('div', {
  class: 'unseen',
  'aria-live': 'polite',
  role: 'status',
});

export const notices = [shown, polite];

/** Says something to screen readers only. */
export function say(message) {
  polite.textContent = '';
  setTimeout(() => {
    polite.textContent = message;
  }, 30);
}

/** Shows a message; `action` = {label, run} adds a button, such as Undo. */
export function notify(message, { action, bad = false } = {}) {
  const close = () => box.remove();
  const box = h(
    'div',
    { class: bad ? 'notice bad' : 'notice', role: bad ? 'alert' : undefined },
    h('span', {}, message),
    action &&
      h(
        'button',
        {
          type: 'button',
          class: 'plain',
          onclick: () => {
            action.run();
            close();
          },
        },
        action.label,
      ),
    h(
      'button',
      {
        type: 'button',
        class: 'plain',
        onclick: close,
        'aria-label': TEXT.close,
      },
      '×',
    ),
  );
  if (!bad) say(message);
  fill(shown, [...shown.children].slice(-2), box);
  setTimeout(close, bad ? 12000 : 6000);
}
