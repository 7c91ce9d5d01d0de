// With and without demonstrations: the query at 0, 1 … k shots.

import { askFor } from './ask.js';
import { curves, curveTable } from './chart.js';
import { h } from './dom.js';
import {
  candidatesNow,
  expectedAnswer,
  rank,
  shares,
  shotsNow,
  together,
} from './rank.js';
import { query, state } from './store.js';
import { TEXT } from './texts.js';
import { taskPane } from './task.js';

export function shotsPane() {
  const T = TEXT.shots;
  return taskPane({
    name: 'shots',
    title: T.title,
    hint: T.emptyHint,
    label: T.run,
    start,
    show,
    blocked: () => (shotsNow().length ? '' : T.none),
  });
}

/** The query with its last i demonstrations, as `Example.keep_shots`. */
const kept = (i) => [...shotsNow().slice(shotsNow().length - i), query()];

async function start(signal, progress) {
  const candidates = candidatesNow();
  const settings = structuredClone(state.settings);
  const expected = expectedAnswer();
  const prompts = Array.from({ length: shotsNow().length + 1 }, (_, i) =>
    structuredClone(kept(i)),
  );
  let done = 0;
  const one = (cards) => async () => {
    const found =
      candidates.length > 1
        ? await rank(cards, settings, candidates, signal)
        : await answerTo(cards, settings, signal);
    progress(++done, prompts.length);
    return found;
  };
  progress(0, prompts.length);
  return { candidates, expected, found: await together(prompts.map(one), 3) };
}

async function answerTo(cards, settings, signal) {
  const answer = await askFor(cards, settings, signal, () => {});
  if (answer.error) throw answer.error;
  if (answer.status === 'stopped')
    throw new DOMException('stopped', 'AbortError');
  return answer.text;
}

function show({ candidates, expected, found }) {
  return candidates.length > 1
    ? curve(candidates, expected, found)
    : list(expected, found);
}

function curve(candidates, expected, found) {
  const byShots = found.map((ranked) => shares(ranked, 'sum'));
  const best = byShots.at(-1).indexOf(Math.max(...byShots.at(-1)));
  const strong = candidates.includes(expected)
    ? candidates.indexOf(expected)
    : best;
  const series = candidates.map((name, i) => ({
    name,
    strong: i === strong,
    values: byShots.map((p) => p[i]),
  }));
  return [
    curves(series, found.length - 1),
    h(
      'details',
      {},
      h('summary', {}, TEXT.shots.table),
      curveTable(series, found.length - 1),
    ),
  ];
}

function list(expected, found) {
  const T = TEXT.shots;
  return [
    h(
      'ol',
      { class: 'answers' },
      found.map((answer, i) =>
        h(
          'li',
          {},
          h('span', { class: 'label' }, T.shots(i)),
          h(
            'span',
            {
              class:
                expected && answer.trim() === expected ? 'text right' : 'text',
            },
            answer || TEXT.answer.nothing,
          ),
        ),
      ),
    ),
    h('p', { class: 'hint' }, T.noCandidates),
  ];
}
