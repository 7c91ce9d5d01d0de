// The bodies of requests, from cards and settings.

import { toMessages } from './assemble.js';
import { BLANK, dataUrl } from './images.js';
import { active, imagesOf } from './prompt.js';

const real = (part) => dataUrl(part.image);

/** The images that the prompt needs and that are not here. */
export const missing = (cards) =>
  active(cards).flatMap((card) =>
    imagesOf(card).filter((part) => !dataUrl(part.image)),
  );

function ours(settings) {
  const found = {};
  if (settings.style !== 'plain') found.style = settings.style;
  if (settings.format !== 'auto') found.image_format = settings.format;
  if (settings.truncate) found.truncate = true;
  return Object.keys(found).length ? { mmicl: found } : {};
}

const named = (settings) => (settings.model ? { model: settings.model } : {});

/** Of POST /v1/chat/completions, without `stream`. */
export function chatBody(cards, settings, urlOf = real) {
  const body = {
    ...named(settings),
    messages: toMessages(cards, urlOf),
    max_completion_tokens: settings.maxTokens,
  };
  const stops = settings.stop.split('\n').filter(Boolean);
  if (stops.length) body.stop = stops;
  if (settings.mode === 'sample') {
    Object.assign(body, {
      temperature: settings.temperature,
      top_p: settings.topP,
    });
    if (settings.topK) body.top_k = settings.topK;
    if (settings.seed !== '') body.seed = Number(settings.seed);
  }
  if (settings.mode === 'beam') {
    Object.assign(body, { use_beam_search: true, num_beams: settings.beams });
  }
  return { ...body, ...ours(settings) };
}

/** With logprobs, and streamed where the server can: beams it cannot. */
export function runBody(cards, settings) {
  const body = { ...chatBody(cards, settings), logprobs: true };
  if (settings.mode === 'beam') return body;
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

/** Of POST /v1/chat/completions/render: pixels do not matter to it. */
export const renderBody = (cards, settings) => ({
  ...named(settings),
  messages: toMessages(cards, () => BLANK),
  ...ours(settings),
});

/** Of POST /v1/attention. */
export const attentionBody = (cards, settings, answer) => ({
  ...named(settings),
  messages: toMessages(cards, real),
  answer,
  ...ours(settings),
});

/** Of POST /v1/rank. */
export const rankBody = (cards, settings, candidates, reduce = 'sum') => ({
  ...named(settings),
  messages: toMessages(cards, real),
  candidates,
  reduce,
  ...ours(settings),
});
