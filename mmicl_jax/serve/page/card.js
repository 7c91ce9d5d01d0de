// A card: one demonstration or the query.

import { renumber, island } from './chip.js';
import { h } from './dom.js';
import { dragCard } from './drag.js';
import { afterPress, editor } from './editor.js';
import { chooseFiles, insertFiles } from './files.js';
import { icon } from './icons.js';
import { notify, say } from './notice.js';
import { copyCard, numbers, withMentions } from './prompt.js';
import { changed, remember, state, undo } from './store.js';
import { TEXT } from './texts.js';

/** The card's element, and `update(name, flags)`, which shows its place. */
export function cardView(card, isQuery) {
  const T = TEXT.cards;
  let shown = null;
  const typed = (field) => (parts) => {
    card[field] = parts;
    changed('text');
  };
  const left = (field) => () => {
    const parts = withMentions(card[field], numbers(state.cards));
    if (parts.length === card[field].length) return;
    card[field] = parts;
    afterPress(() => changed('cards'));
  };
  const text = editor({
    parts: card.parts,
    island,
    label: '',
    hint: isQuery ? T.queryHint : T.shotHint,
    onchange: typed('parts'),
    onfiles: (files) => insertFiles(files, text),
  });
  const answer = editor({
    parts: card.answer,
    island,
    label: '',
    lines: 'one',
    hint: isQuery ? T.expectedHint : T.answerHint,
    onchange: typed('answer'),
  });
  text.field.addEventListener('blur', left('parts'));
  answer.field.addEventListener('blur', left('answer'));

  const title = h('h3', {});
  const flag = h('span', { class: 'flag' });
  const tools = isQuery
    ? {}
    : {
        up: tool('up', () => move(card, -1)),
        down: tool('down', () => move(card, 1)),
        mute: tool('eye', () => mute(card)),
        duplicate: tool('copy', () => duplicate(card)),
        remove: tool('trash', () => remove(card)),
      };
  const handle =
    !isQuery &&
    h(
      'span',
      {
        class: 'handle',
        'aria-hidden': 'true',
        onpointerdown: (event) => dragCard(event, card.id, element),
      },
      icon('grip'),
    );
  const add = h(
    'button',
    {
      type: 'button',
      class: 'add-image',
      onclick: async () => {
        // Who chose nothing stays on the button.
        if (await insertFiles(await chooseFiles(), text)) text.resume();
      },
    },
    icon('image'),
    T.addImage,
  );
  const problem = h('p', { class: 'problem', role: 'alert' });
  const element = h(
    'section',
    {
      class: isQuery ? 'card query' : 'card',
      'data-id': card.id,
      onkeydown: keyed,
    },
    h(
      'header',
      {},
      handle,
      title,
      flag,
      h('div', { class: 'tools' }, Object.values(tools)),
    ),
    text.field,
    h(
      'footer',
      {},
      add,
      h(
        'div',
        { class: 'answer' },
        h(
          'span',
          { class: 'label', 'aria-hidden': 'true' },
          isQuery ? T.expected : T.answer,
        ),
        answer.field,
      ),
    ),
    problem,
  );

  function keyed(event) {
    const steps = { ArrowUp: -1, ArrowDown: 1 };
    if (isQuery || !event.altKey || !(event.key in steps)) return;
    event.preventDefault();
    move(card, steps[event.key]);
  }

  function update(name, { numbered, first, last, dropped, wrong }) {
    if (shown?.parts !== card.parts) text.show(card.parts);
    if (shown?.answer !== card.answer) answer.show(card.answer);
    shown = { parts: card.parts, answer: card.answer };
    title.textContent = name;
    flag.textContent = card.muted ? T.muted : dropped ? T.dropped : '';
    problem.textContent = wrong ?? '';
    element.classList.toggle('muted', card.muted);
    element.classList.toggle('dropped', Boolean(dropped));
    element.classList.toggle('wrong', Boolean(wrong));
    element.setAttribute(
      'aria-label',
      [name, flag.textContent].filter(Boolean).join(', '),
    );
    text.field.setAttribute('aria-label', T.textLabel(name));
    answer.field.setAttribute(
      'aria-label',
      isQuery ? `${T.expected}, ${T.expectedHint}` : T.answerLabel(name),
    );
    add.setAttribute('aria-label', T.addImageTo(name));
    for (const [kind, button] of Object.entries(tools)) {
      const label =
        kind === 'mute' && card.muted ? T.unmute(name) : T[kind](name);
      button.setAttribute('aria-label', label);
      button.title = label;
    }
    if (tools.up) {
      tools.up.setAttribute('aria-disabled', first);
      tools.down.setAttribute('aria-disabled', last);
      tools.mute.replaceChildren(icon(card.muted ? 'eyeOff' : 'eye'));
    }
    renumber(element, numbered);
  }

  // What is typed here need not be shown again.
  const typedHere = () => {
    shown = { parts: card.parts, answer: card.answer };
  };
  return { element, update, typedHere, editor: text };
}

const tool = (name, run) =>
  h('button', { type: 'button', class: 'tool', onclick: run }, icon(name));

/** Moves a demonstration up or down; the focus stays where it is. */
function move(card, step) {
  const at = state.cards.indexOf(card);
  const to = at + step;
  if (to < 0 || to > state.cards.length - 2) return;
  const focused = document.activeElement;
  remember();
  state.cards.splice(at, 1);
  state.cards.splice(to, 0, card);
  changed('cards');
  focused.focus({ preventScroll: true });
  focused.closest('.card')?.scrollIntoView({ block: 'nearest' });
  say(
    TEXT.cards.moved(
      TEXT.cards.demonstration(at + 1),
      to + 1,
      state.cards.length - 1,
    ),
  );
}

function mute(card) {
  remember();
  card.muted = !card.muted;
  changed('cards');
}

function duplicate(card) {
  remember();
  const copy = copyCard(card);
  state.cards.splice(state.cards.indexOf(card) + 1, 0, copy);
  changed('cards');
}

function remove(card) {
  const at = state.cards.indexOf(card);
  remember();
  state.cards.splice(at, 1);
  changed('cards');
  const next = document.querySelectorAll('.card')[at];
  (next?.querySelector('.tool') ?? next?.querySelector('.editor'))?.focus();
  notify(TEXT.cards.removed(TEXT.cards.demonstration(at + 1)), {
    action: { label: TEXT.undo, run: undo },
  });
}
