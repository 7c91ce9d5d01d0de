// The answer: streamed, shaded by how sure the model was, with its figures.

import { askFor } from './ask.js';
import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { notify, say } from './notice.js';
import { newCard, numbers, plain, text } from './prompt.js';
import { changed, on, query, remember, snapshot, state } from './store.js';
import { TEXT } from './texts.js';

let running = null;

export const isRunning = () => Boolean(running);

/** Asks; a run under way is stopped first. */
export async function run() {
  stop();
  const mine = new AbortController();
  running = mine;
  const prompt = snapshot();
  const expected = plain(query().answer, numbers(state.cards)).trim();
  const answer = await askFor(
    prompt.cards,
    prompt.settings,
    mine.signal,
    (now) => {
      if (running !== mine && now.status !== 'stopped') return;
      state.results.answer = { ...now, expected };
      changed('results');
    },
  );
  if (running === mine) running = null;
  if (answer.status === 'done') {
    say(TEXT.answer.done(answer.text || TEXT.answer.nothing));
    state.history.unshift({
      prompt,
      answer: { ...answer, expected },
      at: new Date(),
    });
    changed('history');
  }
  changed('results');
}

/** Stops the run under way; returns whether there was one. */
export function stop() {
  if (!running) return false;
  running.abort();
  running = null;
  changed('results');
  return true;
}

export function answerPane() {
  const pane = h('div', { class: 'pane' });
  const show = () =>
    fill(
      pane,
      state.results.answer
        ? [answerView(state.results.answer), after(state.results.answer)]
        : empty(),
    );
  on('results', show);
  show();
  return pane;
}

const empty = () =>
  h(
    'div',
    { class: 'empty' },
    h('p', {}, TEXT.answer.empty),
    h('p', { class: 'hint' }, TEXT.answer.emptyHint),
  );

/** An answer as text, with its figures unless it is to be `bare`. */
export function answerView(answer, bare = false) {
  const T = TEXT.answer;
  if (answer.status === 'failed')
    return h('p', { class: 'error', role: 'alert' }, answer.error.message);
  const words = answer.tokens.length ? shaded(answer) : answer.text;
  const waiting =
    answer.status === 'waiting' && h('span', { class: 'waiting' }, T.waiting);
  const running =
    answer.status === 'running' &&
    h('span', { class: 'caret', 'aria-hidden': 'true' });
  const nothing =
    answer.status === 'done' &&
    !answer.text &&
    h('span', { class: 'hint' }, T.nothing);
  return [
    h(
      'p',
      {
        class: 'said',
        'aria-busy': String(['waiting', 'running'].includes(answer.status)),
      },
      words,
      waiting,
      running,
      nothing,
    ),
    !bare && figures(answer),
  ];
}

function shaded(answer) {
  const joined = answer.tokens.map(({ token }) => token).join('');
  if (!answer.text.startsWith(joined) && joined !== answer.text)
    return answer.text;
  return [
    ...answer.tokens.map(({ token, p }) => {
      const shown = h(
        'span',
        { class: 'token', title: TEXT.answer.token(token, TEXT.percent(p)) },
        token,
      );
      shown.style.setProperty('--doubt', Math.min(1, 1 - p).toFixed(3));
      return shown;
    }),
    answer.text.slice(joined.length),
  ];
}

function figures(answer) {
  const T = TEXT.answer;
  const right =
    answer.expected &&
    answer.status === 'done' &&
    answer.text.trim() === answer.expected;
  const least = answer.tokens.reduce((a, b) => (b.p < a.p ? b : a), { p: 2 });
  const facts = [
    answer.status === 'stopped' && T.stopped,
    answer.status !== 'waiting' && T.seconds(answer.seconds),
    answer.first !== null &&
      answer.seconds - answer.first > 0.05 &&
      T.first(answer.first),
    (answer.usage || answer.tokens.length > 0) &&
      T.tokens(answer.usage?.completion_tokens ?? answer.tokens.length),
    answer.finish === 'length' && T.length,
    answer.extra.seed !== undefined &&
      answer.sampled &&
      T.seed(answer.extra.seed),
    answer.extra.dropped_demonstrations > 0 &&
      T.left(answer.extra.dropped_demonstrations),
  ].filter(Boolean);
  return h(
    'div',
    { class: 'figures' },
    answer.expected &&
      answer.status === 'done' &&
      h(
        'span',
        { class: right ? 'verdict right' : 'verdict wrong' },
        icon(right ? 'check' : 'close'),
        right ? T.right : T.wrong,
      ),
    facts.map((fact) => h('span', {}, fact)),
    answer.tokens.length > 1 &&
      least.p < 0.9 &&
      answer.status === 'done' &&
      h('span', {}, T.least(least.token, TEXT.percent(least.p))),
  );
}

function after(answer) {
  if (answer.status !== 'done') return null;
  const T = TEXT.answer;
  return h(
    'div',
    { class: 'actions' },
    answer.tokens.length > 0 &&
      h(
        'span',
        { class: 'legend', 'aria-hidden': 'true' },
        T.sure,
        h('span', { class: 'scale' }),
        T.unsure,
      ),
    h(
      'button',
      { type: 'button', class: 'quiet', onclick: () => copy(answer.text) },
      icon('copy'),
      T.copy,
    ),
    answer.text &&
      h(
        'button',
        { type: 'button', class: 'quiet', onclick: () => keep(answer.text) },
        icon('plus'),
        T.keep,
      ),
  );
}

async function copy(value) {
  await navigator.clipboard.writeText(value);
  notify(TEXT.answer.copied);
}

/** The query and its answer become a demonstration; an empty query follows. */
function keep(value) {
  remember();
  const card = query();
  const answer = card.answer.length ? card.answer : [text(value)];
  state.cards = [
    ...state.cards.slice(0, -1),
    newCard(card.parts, answer),
    newCard(),
  ];
  changed('cards');
}
