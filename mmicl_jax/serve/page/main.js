// Puts the page together.

import { answerPane, isRunning, run, stop } from './answer.js';
import { ask, health, pause } from './api.js';
import { candidatesPane } from './candidates.js';
import { column, editorAt } from './column.js';
import { comparePane } from './compare.js';
import { fill, h } from './dom.js';
import {
  examplesDialog,
  hasExamples,
  loadExamples,
  openNamed,
  suggestions,
} from './examples.js';
import { codeDialog, copyLink, saveSession } from './export.js';
import { takeFiles } from './files.js';
import { historyPane } from './history.js';
import { icon } from './icons.js';
import { matteredPane } from './mattered.js';
import { notices, notify } from './notice.js';
import { keepInTab, openKept } from './kept.js';
import { lookedPane } from './looked.js';
import { openDialog, openText } from './open.js';
import { closeMenu, menu } from './popup.js';
import { preview } from './preview.js';
import { readLink } from './session.js';
import { settingsForm, shortName, summary } from './settings.js';
import { shotsPane } from './shots.js';
import {
  changed,
  on,
  redo,
  remember,
  restore,
  setModels,
  state,
  undo,
} from './store.js';
import { tabs } from './tabs.js';
import { TEXT } from './texts.js';
import { themeButton } from './theme.js';

const narrow = matchMedia('(max-width: 860px)');
const guard = (action) => () =>
  Promise.resolve(action()).catch((error) =>
    notify(error.message, { bad: true }),
  );

function header() {
  const T = TEXT.header;
  const model = h('select', {
    class: 'model',
    'aria-label': TEXT.model,
    onchange: () => {
      state.settings.model = model.value;
      changed('settings');
    },
  });
  on('models settings', () => {
    fill(
      model,
      state.models.map(({ id }) => h('option', { value: id }, shortName(id))),
    );
    model.value = state.settings.model || state.models[0]?.id || '';
    model.hidden = !state.models.length;
  });
  model.hidden = true;
  const actions = [
    { name: 'open', run: openDialog, hint: T.openHint },
    { name: 'save', run: saveSession, hint: T.saveHint },
    { name: 'code', run: codeDialog, hint: T.codeHint },
    { name: 'link', run: copyLink, hint: T.linkHint },
  ];
  const buttons = actions.map(({ name, run: act, hint }) =>
    h(
      'button',
      { type: 'button', class: 'quiet wide', title: hint, onclick: guard(act) },
      icon(name),
      T[name],
    ),
  );
  const more = h(
    'button',
    {
      type: 'button',
      class: 'tool narrow',
      'aria-label': T.more,
      'aria-haspopup': 'menu',
      onclick: () =>
        menu(
          more,
          actions.map(({ name, run: act }) => ({
            label: T[name],
            icon: name,
            run: guard(act),
          })),
          T.more,
        ),
    },
    icon('more'),
  );
  return h(
    'header',
    { class: 'top' },
    h('a', { class: 'skip', href: '#results' }, TEXT.skip),
    h(
      'h1',
      {},
      h('img', { src: 'page/icon.svg', alt: '', width: '26', height: '26' }),
      TEXT.name,
      h('span', { class: 'subtitle' }, TEXT.subtitle),
    ),
    model,
    h(
      'nav',
      {},
      h(
        'button',
        {
          type: 'button',
          class: 'quiet',
          'aria-label': T.examples,
          onclick: examplesDialog,
        },
        icon('grid'),
        h('span', { class: 'label' }, T.examples),
      ),
      buttons,
      more,
      themeButton(),
    ),
  );
}

function runBar(begin) {
  const T = TEXT.run;
  const button = h('button', {
    type: 'button',
    class: 'primary run',
    onclick: () => (isRunning() ? stop() : begin()),
  });
  const says = h('span', { class: 'summary' });
  const details = h(
    'details',
    { class: 'settings-box' },
    h(
      'summary',
      {},
      icon('sliders'),
      h('span', { class: 'unseen' }, TEXT.run.settings),
      says,
    ),
    settingsForm(
      () => state.settings,
      () => changed('settings'),
    ),
  );
  document.addEventListener('pointerdown', (event) => {
    if (!details.contains(event.target)) details.open = false;
  });
  const show = () => {
    const busy = isRunning();
    fill(
      button,
      icon(busy ? 'stop' : 'play'),
      busy ? T.stop : T.run,
      !busy && h('kbd', {}, T.key),
    );
    button.title = busy ? T.stopHint : T.runHint;
    button.classList.toggle('busy', busy);
    says.textContent = summary(state.settings);
  };
  on('results settings', show);
  show();
  return h('div', { class: 'runbar' }, button, details);
}

async function connect(banner) {
  const say = (message) =>
    fill(banner, h('p', { class: 'banner', role: 'status' }, message));
  for (;;) {
    try {
      if ((await health()) === 'warming') {
        say(TEXT.errors.warming);
        await pause(2000);
        continue;
      }
      const models = (await ask('v1/models')).data;
      fill(banner);
      setModels(models);
      return;
    } catch (error) {
      say(error.status === 401 ? TEXT.errors.key : error.message);
      if (error.status === 401) return;
      await pause(2000);
    }
  }
}

async function start() {
  const hints = suggestions();
  const banner = h('div', {});
  const panes = {
    answer: answerPane(),
    shots: shotsPane(),
    candidates: null,
    mattered: matteredPane(),
    looked: lookedPane(),
    compare: comparePane(),
    history: historyPane(),
  };
  let results = null;
  panes.candidates = candidatesPane(() => results?.shown() === 'candidates');
  results = tabs(panes, TEXT.tabs, TEXT.tabs.label, (name) => {
    if (name === 'candidates') panes.candidates.refresh();
  });
  const begin = () => {
    results.select('answer');
    if (narrow.matches)
      document.getElementById('results').scrollIntoView({ behavior: 'smooth' });
    run();
  };
  document.body.append(
    header(),
    banner,
    h(
      'main',
      {},
      h('div', { class: 'column' }, column(hints)),
      h(
        'div',
        { class: 'side-column' },
        preview(),
        runBar(begin),
        h(
          'section',
          {
            class: 'panel results',
            id: 'results',
            tabindex: '-1',
            'aria-label': TEXT.tabs.label,
          },
          results.elements,
        ),
      ),
    ),
    ...notices,
  );
  results.start();
  takeFiles({ editorAt, openText });
  keys(begin, panes);
  // The page is whole without examples.
  const fetchExamples = () => loadExamples().then(hints.show, () => {});
  on('key', () => {
    connect(banner);
    fetchExamples();
  });
  on('models', () => {
    if (!hasExamples()) fetchExamples(); // while it loads, a server has none
  });
  connect(banner);
  await fetchExamples();
  await openAddress();
  keepInTab();
}

async function openAddress() {
  try {
    const linked = await readLink();
    if (!linked) return void ((await openNamed()) || (await openKept()));
    remember();
    restore(linked);
    if (
      linked.cards.some((card) =>
        card.parts.some((part) => part.kind === 'image'),
      )
    )
      notify(TEXT.open.linkImages);
  } catch (error) {
    notify(error.message, { bad: true });
  }
}

function keys(begin, panes) {
  document.addEventListener('keydown', (event) => {
    const command = event.ctrlKey || event.metaKey;
    const typing = event.target.closest?.(
      'input, textarea, select, [contenteditable]',
    );
    if (command && event.key === 'Enter') {
      event.preventDefault();
      if (!document.querySelector('dialog[open]')) begin();
    } else if (
      event.key === 'Escape' &&
      !document.querySelector('dialog[open]')
    ) {
      const box = document.querySelector('.settings-box[open]');
      if (box) box.open = false;
      else if (!closeMenu())
        [stop(), ...Object.values(panes).map((pane) => pane.stop?.())];
    } else if (command && event.key.toLowerCase() === 'z' && !typing) {
      event.preventDefault();
      if (event.shiftKey) redo();
      else undo();
    }
  });
}

addEventListener('hashchange', openAddress);
addEventListener('unhandledrejection', (event) =>
  notify(TEXT.errors.page(event.reason?.message ?? String(event.reason)), {
    bad: true,
  }),
);
start();
