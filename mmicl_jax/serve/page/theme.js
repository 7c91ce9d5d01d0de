// Light, dark, or as the system is.

import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { TEXT } from './texts.js';

const ORDER = ['auto', 'light', 'dark'];
const ICONS = { auto: 'auto', light: 'sun', dark: 'moon' };
const STORED = 'mmicl-theme';

export function themeButton() {
  let theme = ORDER.includes(localStorage.getItem(STORED))
    ? localStorage.getItem(STORED)
    : 'auto';
  const button = h('button', {
    type: 'button',
    class: 'tool',
    onclick: () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      localStorage.setItem(STORED, theme);
      show();
    },
  });
  const show = () => {
    document.documentElement.dataset.theme = theme;
    fill(button, icon(ICONS[theme]));
    button.title = TEXT.header.theme[theme];
    button.setAttribute('aria-label', TEXT.header.theme[theme]);
  };
  show();
  return button;
}
