// Tabs, as the ARIA practices have them: arrows move, the tab is shown at once.

import { h } from './dom.js';

/** panes: {name: element}; texts: {name: label}. onshow(name) is told. */
export function tabs(panes, texts, label, onshow) {
  const names = Object.keys(panes);
  let shown = names[0];
  const buttons = names.map((name) =>
    h(
      'button',
      {
        type: 'button',
        role: 'tab',
        id: `tab-${name}`,
        'aria-controls': `pane-${name}`,
        onclick: () => select(name),
      },
      texts[name],
    ),
  );
  names.forEach((name) => {
    Object.assign(panes[name], { id: `pane-${name}` });
    panes[name].setAttribute('role', 'tabpanel');
    panes[name].setAttribute('aria-labelledby', `tab-${name}`);
    panes[name].tabIndex = 0;
  });
  const list = h(
    'div',
    { class: 'tabs', role: 'tablist', 'aria-label': label, onkeydown: keyed },
    buttons,
  );

  function keyed(event) {
    const at = names.indexOf(shown);
    const to = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      Home: 0,
      End: names.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(names.at(to % names.length));
    buttons[names.indexOf(shown)].focus();
  }

  function select(name) {
    shown = name;
    names.forEach((other, i) => {
      buttons[i].setAttribute('aria-selected', other === name);
      buttons[i].tabIndex = other === name ? 0 : -1;
      panes[other].hidden = other !== name;
    });
    onshow(name);
  }
  return {
    elements: [list, ...Object.values(panes)],
    select,
    shown: () => shown,
    start: () => select(shown),
  };
}
