// Menus beside a button, and dialogs above the page.

import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { TEXT } from './texts.js';

let open = null;

/** Shows a menu under `anchor`; entries are {label, icon, run, off} or nodes. */
export function menu(anchor, entries, label) {
  closeMenu();
  const items = entries.map((entry) =>
    entry instanceof Node ? entry : item(entry),
  );
  const box = h(
    'div',
    { class: 'menu', role: 'menu', 'aria-label': label, onkeydown: keyed },
    items,
  );
  document.querySelector('main').append(box);
  const place = anchor.getBoundingClientRect();
  const left = Math.min(place.left, innerWidth - box.offsetWidth - 8);
  const below = place.bottom + 6 + box.offsetHeight < innerHeight;
  box.style.left = `${Math.max(8, left) + scrollX}px`;
  box.style.top = `${(below ? place.bottom + 6 : Math.max(8, place.top - box.offsetHeight - 6)) + scrollY}px`;
  const away = (event) => {
    if (!box.contains(event.target)) closeMenu(false);
  };
  setTimeout(() => document.addEventListener('pointerdown', away));
  open = { box, anchor, away };
  anchor.setAttribute('aria-expanded', 'true');
  box
    .querySelector('[role=menuitem]:not(:disabled)')
    ?.focus({ preventScroll: true });
}

function item({ label, icon: name, run, off }) {
  return h(
    'button',
    {
      type: 'button',
      role: 'menuitem',
      tabindex: '-1',
      disabled: off,
      onclick: () => {
        closeMenu();
        run();
      },
    },
    name && icon(name),
    h('span', {}, label),
  );
}

/** Closes the menu, if one is open; gives the focus back to its button. */
export function closeMenu(back = true) {
  if (!open) return false;
  const { box, anchor, away } = open;
  open = null;
  document.removeEventListener('pointerdown', away);
  anchor.setAttribute('aria-expanded', 'false');
  box.remove();
  if (back && anchor.isConnected) anchor.focus({ preventScroll: true });
  return true;
}

function keyed(event) {
  const items = [
    ...event.currentTarget.querySelectorAll('[role=menuitem]:not(:disabled)'),
  ];
  const at = items.indexOf(document.activeElement);
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in steps) {
    event.preventDefault();
    items.at((at + steps[event.key]) % items.length)?.focus();
  } else if (event.key === 'Escape' || event.key === 'Tab') {
    event.preventDefault();
    event.stopPropagation();
    closeMenu();
  }
}

/** Shows a dialog with a heading; returns a function that closes it. */
export function dialog(heading, ...content) {
  const close = () => box.close();
  const title = h('h2', { id: 'dialog-heading' }, heading);
  const box = h('dialog', {
    'aria-labelledby': 'dialog-heading',
    onclose: () => box.remove(),
    onclick: (event) => {
      if (event.target === box) close();
    },
  });
  fill(
    box,
    h(
      'div',
      { class: 'dialog' },
      h(
        'header',
        {},
        title,
        h(
          'button',
          {
            type: 'button',
            class: 'tool',
            onclick: close,
            'aria-label': TEXT.close,
          },
          icon('close'),
        ),
      ),
      content,
    ),
  );
  document.body.append(box);
  box.showModal();
  return close;
}
