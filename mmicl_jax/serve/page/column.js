// The column of cards, and the candidates under it.

import { cardView } from './card.js';
import { renumber } from './chip.js';
import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { notify } from './notice.js';
import { active, isEmpty, newCard, numbers, plain } from './prompt.js';
import { changed, on, remember, setCards, state, undo } from './store.js';
import { TEXT } from './texts.js';

const views = new Map();

/** The editor of the card that an element belongs to, else the query's. */
export function editorAt(element) {
  const id = element?.closest?.('.card')?.dataset.id ?? state.cards.at(-1).id;
  return views.get(id).editor;
}

/** Puts the caret into the query. */
export const focusQuery = () => editorAt(null).focus();

export function column(suggestions) {
  const T = TEXT.cards;
  const list = h('div', { class: 'cards' });
  const add = h(
    'button',
    { type: 'button', class: 'add-card', onclick: addCard },
    icon('plus'),
    T.add,
  );
  const clear = h(
    'button',
    { type: 'button', class: 'plain', onclick: clearAll },
    T.clear,
  );
  const queryPlace = h('div', { class: 'cards' });

  function show() {
    const cards = state.cards;
    for (const [id, view] of views) {
      if (
        cards.some((card) => card.id === id) &&
        view.card === cards.find((card) => card.id === id)
      )
        continue;
      view.element.remove();
      views.delete(id);
    }
    cards.forEach((card, i) => {
      const isQuery = i === cards.length - 1;
      if (!views.has(card.id))
        views.set(card.id, { card, ...cardView(card, isQuery) });
      const parent = isQuery ? queryPlace : list;
      const { element } = views.get(card.id);
      const at = parent.children[isQuery ? 0 : i];
      // The dragged card must stay in the document: its neighbour moves.
      if (at === element) return;
      if (at?.classList.contains('dragged')) parent.insertBefore(element, at);
      else parent.insertBefore(element, at ?? null);
    });
    update();
    clear.hidden = cards.length === 1 && isEmpty(cards[0]);
  }

  function update() {
    const numbered = numbers(state.cards);
    const dropped = active(state.cards).slice(0, state.rendered?.dropped ?? 0);
    state.cards.forEach((card, i) => {
      const isQuery = i === state.cards.length - 1;
      const name = isQuery ? T.query : T.demonstration(i + 1);
      views.get(card.id).update(name, {
        numbered,
        first: i === 0,
        last: i === state.cards.length - 2,
        dropped: dropped.includes(card),
        wrong: wrongOf(card, isQuery),
      });
    });
    suggestions.hidden = !(state.cards.length === 1 && isEmpty(state.cards[0]));
  }

  function typed() {
    for (const card of state.cards) views.get(card.id)?.typedHere();
    const numbered = numbers(state.cards);
    for (const view of views.values()) renumber(view.element, numbered);
    suggestions.hidden = !(state.cards.length === 1 && isEmpty(state.cards[0]));
    clear.hidden = state.cards.length === 1 && isEmpty(state.cards[0]);
  }

  on('cards', show);
  on('text', typed);
  on('rendered results', update);
  show();
  return [
    h('div', { class: 'column-head' }, h('h2', {}, T.heading), clear),
    list,
    add,
    queryPlace,
    suggestions,
    candidatesField(),
  ];
}

/** What is wrong with a card: an error that names it. */
function wrongOf(card) {
  const { error } = state.rendered ?? {};
  const match = error?.param?.match(/^messages\[(\d+)\]/);
  if (!match) return null;
  return active(state.cards)[Math.floor(Number(match[1]) / 2)] === card
    ? error.message
    : null;
}

function addCard() {
  remember();
  const card = newCard();
  state.cards.splice(state.cards.length - 1, 0, card);
  changed('cards');
  views.get(card.id).editor.focus();
}

function clearAll() {
  setCards([newCard()]);
  notify(TEXT.cards.cleared, { action: { label: TEXT.undo, run: undo } });
  focusQuery();
}

function candidatesField() {
  const T = TEXT.candidates;
  const field = h('textarea', {
    id: 'candidates',
    rows: '2',
    spellcheck: 'false',
    'aria-describedby': 'candidates-hint',
    oninput: () => {
      state.candidates = [
        ...new Set(
          field.value
            .split('\n')
            .map((line) => line.trim())
            .filter(Boolean),
        ),
      ];
      size();
      changed('candidates');
    },
  });
  const size = () => {
    field.rows = Math.min(Math.max(field.value.split('\n').length, 2), 10);
  };
  const suggest = h('div', { class: 'suggest' });
  const show = () => {
    if (document.activeElement !== field)
      field.value = state.candidates.join('\n');
    size();
    const answers = [
      ...new Set(
        active(state.cards)
          .map((card) => plain(card.answer, numbers(state.cards)).trim())
          .filter(Boolean),
      ),
    ];
    const useful =
      answers.length > 1 &&
      answers.some((answer) => !state.candidates.includes(answer));
    fill(
      suggest,
      useful &&
        h(
          'button',
          {
            type: 'button',
            class: 'plain',
            onclick: () => {
              state.candidates = [
                ...new Set([...state.candidates, ...answers]),
              ];
              changed('candidates');
            },
          },
          T.suggest(answers.slice(0, 6).join(', ')),
        ),
    );
  };
  on('candidates cards text', show);
  show();
  return h(
    'section',
    { class: 'candidates', 'aria-labelledby': 'candidates-heading' },
    h('label', { for: 'candidates', id: 'candidates-heading' }, T.heading),
    h('p', { class: 'hint', id: 'candidates-hint' }, T.hint),
    field,
    suggest,
  );
}
