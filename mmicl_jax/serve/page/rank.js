// Probabilities of candidates, as /v1/rank gives them.

import { ask } from './api.js';
import { checkReady } from './ask.js';
import { active, numbers, plain } from './prompt.js';
import { rankBody } from './request.js';
import { query, state } from './store.js';

/**
 * [{text, sum, mean, tokens}] for each candidate, in the order given: the
 * log-probability of the whole text, and its mean over the tokens.
 */
export async function rank(cards, settings, candidates, signal) {
  checkReady(cards);
  const found = await ask(
    'v1/rank',
    rankBody(cards, settings, candidates),
    signal,
  );
  return readRank(found, candidates);
}

function readRank(found, candidates) {
  const byIndex = [...found.candidates].sort((a, b) => a.index - b.index);
  return candidates.map((text, i) => {
    const { sum, mean, tokens } = byIndex[i];
    return { text, sum, mean, tokens };
  });
}

/** Normalised probabilities of ranked candidates by 'sum' or 'mean'. */
export function shares(ranked, reduce) {
  const most = Math.max(...ranked.map((one) => one[reduce]));
  const weights = ranked.map((one) => Math.exp(one[reduce] - most));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** The answer that the query's card expects, if there is one. */
export const expectedAnswer = () =>
  plain(query().answer, numbers(state.cards)).trim();

/** The candidates, and the expected answer among them. */
export function candidatesNow() {
  const expected = expectedAnswer();
  const all = state.candidates;
  return all.length && expected && !all.includes(expected)
    ? [...all, expected]
    : all;
}

/** The demonstrations that are not muted. */
export const shotsNow = () => active(state.cards).slice(0, -1);

/** Runs tasks with at most `width` of them at a time; results keep the order. */
export async function together(tasks, width = 4) {
  const results = [];
  let next = 0;
  const work = async () => {
    while (next < tasks.length) {
      const i = next++;
      results[i] = await tasks[i]();
    }
  };
  await Promise.all(
    Array.from({ length: Math.min(width, tasks.length) }, work),
  );
  return results;
}
