// Asks for one answer, and tells what has come of it so far.

import { ask, stream } from './api.js';
import { missing, runBody } from './request.js';
import { active, isEmpty, plain } from './prompt.js';
import { state } from './store.js';
import { TEXT } from './texts.js';

/**
 * Asks for an answer to cards. Calls told(answer) at every change: {status,
 * text, tokens, seconds, first, usage, finish, extra, error}; status is one of
 * waiting, running, done, stopped and failed. Never throws.
 */
export async function askFor(cards, settings, signal, told) {
  const answer = {
    status: 'waiting',
    text: '',
    tokens: [],
    seconds: 0,
    first: null,
    usage: null,
    finish: null,
    extra: {},
    sampled: settings.mode === 'sample',
    error: null,
  };
  const began = performance.now();
  const tell = (changes) => {
    Object.assign(answer, changes, {
      seconds: (performance.now() - began) / 1000,
    });
    told(answer);
  };
  tell({});
  try {
    checkReady(cards);
    const body = runBody(cards, settings);
    const events = body.stream
      ? stream('v1/chat/completions', body, signal)
      : [await ask('v1/chat/completions', body, signal)];
    for await (const event of events) take(event, answer, tell, began);
    tell({ status: 'done' });
  } catch (error) {
    tell(
      error.name === 'AbortError'
        ? { status: 'stopped' }
        : { status: 'failed', error },
    );
  }
  return answer;
}

/** What a prompt lacks before it is one, as a sentence; '' if nothing. */
export function lackOf(cards) {
  const open = active(cards)
    .slice(0, -1)
    .find((card) => !plain(card.answer, new Map()).trim());
  if (open) {
    const at = state.cards.findIndex(({ id }) => id === open.id);
    return TEXT.run.answer(TEXT.cards.demonstration(at + 1));
  }
  return isEmpty(cards.at(-1)) ? TEXT.run.empty : '';
}

/** Throws an Error to be shown if a prompt cannot be sent yet. */
export function checkReady(cards) {
  const lack = lackOf(cards);
  if (lack) throw new Error(lack);
  const gone = missing(cards).length;
  if (gone) throw new Error(TEXT.images.missing(gone));
}

function take(event, answer, tell, began) {
  const changes = {};
  if (event.usage) changes.usage = event.usage;
  if (event.mmicl) changes.extra = { ...answer.extra, ...event.mmicl };
  const [choice] = event.choices ?? [];
  const added = (choice?.delta ?? choice?.message)?.content;
  if (added) {
    changes.text = answer.text + added;
    changes.status = 'running';
    changes.first = answer.first ?? (performance.now() - began) / 1000;
  }
  if (choice?.logprobs?.content) {
    changes.tokens = [
      ...answer.tokens,
      ...choice.logprobs.content.map(({ token, logprob }) => ({
        token,
        p: Math.exp(logprob),
      })),
    ];
  }
  if (choice?.finish_reason) changes.finish = choice.finish_reason;
  tell(changes);
}
