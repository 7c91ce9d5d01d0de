// Which demonstration mattered: the candidates with each one left out.

import { bar } from './chart.js';
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
import { taskPane } from './task.js';
import { TEXT } from './texts.js';

export function matteredPane() {
  const T = TEXT.mattered;
  return taskPane({
    name: 'mattered',
    title: T.title,
    hint: T.emptyHint,
    label: T.run,
    start,
    show,
    blocked: () =>
      !shotsNow().length ? T.none : candidatesNow().length < 2 ? T.needs : '',
  });
}

async function start(signal, progress) {
  const candidates = candidatesNow();
  const settings = structuredClone(state.settings);
  const shots = shotsNow();
  const prompts = [
    shots,
    ...shots.map((shot) => shots.filter((other) => other !== shot)),
  ];
  let done = 0;
  const one = (kept) => async () => {
    const found = shares(await rank(kept, settings, candidates, signal), 'sum');
    progress(++done, prompts.length);
    return found;
  };
  progress(0, prompts.length);
  const frozen = prompts.map((kept) => structuredClone([...kept, query()]));
  const found = await together(frozen.map(one), 3);
  const expected = candidates.indexOf(expectedAnswer());
  const at = expected >= 0 ? expected : found[0].indexOf(Math.max(...found[0]));
  return {
    about: candidates[at],
    values: found.map((p) => p[at]),
    names: shots.map((shot) =>
      TEXT.cards.demonstration(state.cards.indexOf(shot) + 1),
    ),
  };
}

function show({ about, values, names }) {
  const T = TEXT.mattered;
  const [all, ...without] = values;
  return [
    h('p', { class: 'caption' }, T.about(about)),
    h(
      'ol',
      { class: 'bars' },
      bar({ name: T.all, value: all, strong: true }),
      without.map((value, i) => {
        const points = 100 * (value - all);
        const verdict = points < -1 ? T.helps : points > 1 ? T.hurts : '';
        return bar({
          name: T.without(names[i].toLowerCase()),
          value,
          base: all,
          note: [T.change(points), verdict].filter(Boolean).join(' · '),
        });
      }),
    ),
    h('p', { class: 'hint' }, T.caption),
  ];
}
