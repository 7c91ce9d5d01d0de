// Opens sessions, MIC records and Python, from a file or pasted text.

import { h } from './dom.js';
import { chooseFiles } from './files.js';
import { icon } from './icons.js';
import { notify } from './notice.js';
import { dialog } from './popup.js';
import { readRecords, turnsOfRecord } from './read_mic.js';
import { readPython } from './read_python.js';
import { cardsOfTurns } from './read_turns.js';
import { readSession } from './session.js';
import { changed, remember, restore, snapshot, state } from './store.js';
import { TEXT } from './texts.js';

/** Shows turns as cards; style: of the prompt. */
export async function openTurns(turns, style = 'plain', candidates = []) {
  const { cards, format } = await cardsOfTurns(turns);
  remember();
  state.results = {};
  changed('results');
  restore({
    cards,
    candidates,
    settings: { ...state.settings, style, format },
  });
  return cards;
}

/** Opens a text of any kind; errors are told to the user. */
export async function openText(value) {
  try {
    const shown = await readText(value.replace(/^\ufeff/, '').trim());
    if (shown) notify(TEXT.open.done(state.cards.length));
  } catch (error) {
    notify(error.message, { bad: true });
  }
}

async function readText(value) {
  if (/\bTurn\s*\(/.test(value) && !value.startsWith('{')) {
    const { turns, style } = readPython(value);
    await openTurns(turns, style);
    return true;
  }
  if (!value.startsWith('{')) throw new Error(TEXT.open.unknown);
  const whole = parsed(value);
  if (whole?.format) {
    const found = await readSession(value);
    remember();
    state.results = {};
    changed('results');
    restore({ ...snapshot(), ...found });
    return true;
  }
  const records = readRecords(whole ? JSON.stringify(whole) : value);
  if (records.length === 1) return openRecord(records[0]);
  pick(records);
  return false;
}

function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return null; // several lines of JSON, perhaps
  }
}

async function openRecord(record) {
  const { turns, style } = turnsOfRecord(record);
  await openTurns(turns, style);
  return true;
}

function pick(records) {
  const close = dialog(
    TEXT.open.pick(records.length),
    h(
      'ol',
      { class: 'picks' },
      records.slice(0, 200).map((record) =>
        h(
          'li',
          {},
          h(
            'button',
            {
              type: 'button',
              onclick: async () => {
                close();
                await openRecord(record);
                notify(TEXT.open.done(state.cards.length));
              },
            },
            h('span', { class: 'hint' }, String(record.id)),
            h('span', {}, record.prompt.slice(-120)),
          ),
        ),
      ),
    ),
  );
}

/** The dialog in which text is pasted, or a file chosen. */
export function openDialog() {
  const T = TEXT.open;
  const field = h('textarea', { rows: '8', id: 'pasted', spellcheck: 'false' });
  const go = (value) => {
    close();
    openText(value);
  };
  const choose = async () => {
    const [file] = await chooseFiles(false, '.json,.jsonl,.py,.txt');
    if (file) go(await file.text());
  };
  const close = dialog(
    T.heading,
    h('p', {}, T.hint),
    h(
      'button',
      { type: 'button', class: 'secondary', onclick: choose },
      icon('open'),
      T.choose,
    ),
    h('label', { for: 'pasted' }, T.label),
    field,
    h(
      'div',
      { class: 'dialog-end' },
      h(
        'button',
        { type: 'button', class: 'primary', onclick: () => go(field.value) },
        T.open,
      ),
    ),
  );
  field.focus();
}
