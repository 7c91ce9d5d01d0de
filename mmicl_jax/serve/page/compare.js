// The same prompt with two models or settings, side by side.

import { answerView } from './answer.js';
import { askFor } from './ask.js';
import { fill, h } from './dom.js';
import { settingsForm, shortName, summary } from './settings.js';
import { DEFAULTS, changed, fitting, on, state } from './store.js';
import { taskPane } from './task.js';
import { TEXT } from './texts.js';

const sides = [newSide('greedy'), newSide('sample')];
let blind = false;

/** What a side's form sets; the rest, and the style at first, is the prompt's. */
function newSide(mode) {
  const { model, maxTokens, temperature, seed, beams } = DEFAULTS;
  let style = null;
  return {
    ...{ model, mode, maxTokens, temperature, seed, beams },
    get style() {
      return style ?? state.settings.style;
    },
    set style(value) {
      style = value;
    },
  };
}

export function comparePane() {
  const T = TEXT.compare;
  const forms = h(
    'div',
    { class: 'sides' },
    sides.map((side, i) =>
      h(
        'details',
        { open: true },
        h('summary', {}, T.side(T.sides[i])),
        settingsForm(
          () => side,
          () => {},
          { whole: false },
        ),
      ),
    ),
  );
  on('models', () =>
    sides.forEach((side, i) => {
      side.model ||= (state.models[i] ?? state.models[0])?.id ?? '';
      side.maxTokens = fitting(side.maxTokens);
    }),
  );
  const check = h(
    'label',
    { class: 'check' },
    h('input', {
      type: 'checkbox',
      onchange: (event) => {
        blind = event.target.checked;
      },
    }),
    h('span', {}, T.blind),
  );
  const pane = taskPane({
    name: 'compare',
    title: T.title,
    hint: T.emptyHint,
    label: T.run,
    start,
    show,
    blocked: () => '',
  });
  pane.querySelector('.pane-head').after(forms, check);
  return pane;
}

async function start(signal) {
  for (const form of document.querySelectorAll('.sides > details')) {
    form.open = false; // the answers come into sight
  }
  const cards = structuredClone(state.cards);
  const chosen = sides.map((side) => ({ ...state.settings, ...side }));
  const found = {
    blind,
    revealed: !blind,
    order: blind && Math.random() < 0.5 ? [1, 0] : [0, 1],
    chosen,
    answers: [null, null],
  };
  state.results.compare = found; // shown while it comes in
  const told = (i) => (now) => {
    found.answers[i] = { ...now };
    if (!blind) changed('results');
  };
  await Promise.all(
    chosen.map((settings, i) => askFor(cards, settings, signal, told(i))),
  );
  return found;
}

function show(found) {
  const T = TEXT.compare;
  const reveal = () => {
    found.revealed = true;
    changed('results');
  };
  return h(
    'div',
    { class: 'sides' },
    found.order.map((i, place) => {
      const answer = found.answers[i];
      const settings = found.chosen[i];
      const heading = found.blind
        ? T.result(T.blindSides[place])
        : T.result(T.sides[i]);
      return h(
        'section',
        { class: 'side' },
        h('h4', {}, heading),
        answer && fill(h('div', {}), answerView(answer, !found.revealed)),
        found.revealed
          ? h(
              'p',
              { class: 'hint' },
              found.blind ? `${T.revealed(T.sides[i])}: ` : '',
              [shortName(settings.model), summary(settings)]
                .filter(Boolean)
                .join(', '),
            )
          : answer?.status === 'done' &&
              h(
                'button',
                { type: 'button', class: 'quiet', onclick: reveal },
                T.prefer,
              ),
      );
    }),
  );
}
