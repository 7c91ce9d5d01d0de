"""Beam search as transformers does it, each example as if it were alone.

At every step the 2 x beams best continuations are found. Those that end, and
are among the best `beams`, compete for the example's finished answers by
score / length ** length_penalty; the best that go on are the next beams.
Source: transformers' GenerationMixin._beam_search.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmicl_jax.decoding.options import DynamicOptions, StaticOptions
from mmicl_jax.decoding.scores import (
  Decoded,
  next_stop_states,
  process,
  start_sequences,
  take_rows,
)

LOW = -1e9  # transformers' score of what must not win


class Hypotheses(NamedTuple):
  """K sequences an example, and for finished ones whether the place is taken.

  scores: sums of log-probabilities; of finished ones with length penalty.
  """

  sequences: Int[Array, 'B K W']
  scores: Float[Array, 'B K']
  log_probs: Float[Array, 'B K U']
  stop_states: Int[Array, 'B K']
  finished: Bool[Array, 'B K']
  lengths: Int[Array, 'B K']


class Beams(NamedTuple):
  """open: may a running beam still beat a finished answer of the example?"""

  running: Hypotheses
  answers: Hypotheses
  open: Bool[Array, 'B']
  keys: Shaped[Array, 'B'] | None
  index: Int[Array, '']
  cache: Any


def start(
  valid: Bool[Array, 'B'],
  keys: Shaped[Array, 'B'] | None,
  plan: StaticOptions,
  cache: Any,
) -> Beams:
  shape = (len(valid), plan.num_beams)
  empty = Hypotheses(
    sequences=start_sequences(shape, plan),
    scores=jnp.full(shape, LOW),
    log_probs=jnp.zeros((*shape, plan.length)),
    stop_states=jnp.zeros(shape, jnp.int32),
    finished=jnp.zeros(shape, bool),
    lengths=jnp.zeros(shape, jnp.int32),
  )
  # All beams are alike at first: only the first one counts.
  running = empty._replace(scores=empty.scores.at[:, 0].set(0))
  keys = keys if plan.do_sample else None
  return Beams(running, empty, valid, keys, jnp.int32(1), cache)


def update(
  state: Beams,
  logits: Float[Array, 'R V'],
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None,
) -> Beams:
  """One more token for every beam; ended ones move to the answers."""
  beams, index = plan.num_beams, state.index
  values, log_probs, parents, tokens = continuations(
    state, logits, plan, numbers
  )
  rows = _gather(state.running, parents)
  stop_states, stopped = next_stop_states(rows.stop_states, tokens, stops)
  rows = rows._replace(
    sequences=rows.sequences.at[:, :, index].set(tokens),
    log_probs=rows.log_probs.at[:, :, index - 1].set(log_probs),
    stop_states=stop_states,
    lengths=jnp.full_like(rows.lengths, index),
  )
  ended = (tokens == plan.eos) | stopped | (index >= numbers.max_new_tokens)

  # What goes on. 2 x beams candidates hold enough that do not end.
  going = rows._replace(scores=values + ended * LOW)
  order = jax.lax.top_k(going.scores, beams)[1]
  running = _gather(going, order)
  source = jnp.take_along_axis(parents, order, axis=1)
  source += beams * jnp.arange(len(source))[:, None]

  # What ended competes with the answers so far.
  wins = ended & (jnp.arange(ended.shape[1]) < beams)
  closed = ~state.open[:, None]
  if plan.early_stopping is True:
    closed |= state.answers.finished.all(-1, keepdims=True)
  scores = values / index.astype(jnp.float32) ** numbers.length_penalty
  scores += closed * LOW + ~wins * LOW
  rows = rows._replace(scores=scores, finished=wins)
  both = jax.tree.map(
    lambda a, b: jnp.concatenate([a, b], axis=1), state.answers, rows
  )
  answers = _gather(both, jax.lax.top_k(both.scores, beams)[1])

  # Alone, an example of which every candidate ended would stop here.
  is_open = state.open & ~ended.all(-1)
  return Beams(
    running=running,
    answers=answers,
    open=is_open & _can_improve(running, answers, index, plan, numbers),
    keys=state.keys,
    index=index + 1,
    cache=take_rows(state.cache, source.reshape(-1), plan.cache_axis),
  )


def continuations(
  state: Beams,
  logits: Float[Array, 'R V'],
  plan: StaticOptions,
  numbers: DynamicOptions,
) -> tuple[
  Float[Array, 'B M'], Float[Array, 'B M'], Int[Array, 'B M'], Int[Array, 'B M']
]:
  """The M = 2 x beams best of an example: sum, own part, beam and token."""
  batch, beams = state.running.scores.shape
  count = 2 * beams
  total = jax.nn.logsumexp(logits, axis=-1)
  if plan.repetition or plan.no_repeat_ngram_size or plan.min_length:
    sequences = state.running.sequences.reshape(batch * beams, -1)
    logits = process(
      logits - total[:, None], sequences, state.index, plan, numbers
    )
    total = jnp.zeros_like(total)
  if plan.do_sample:
    logits = warp(logits - total[:, None], plan, numbers)
    total = jnp.zeros_like(total)
  kept = min(count, logits.shape[-1])
  base = state.running.scores.reshape(-1, 1) - total[:, None]
  if plan.do_sample and state.keys is not None:
    # The largest of scores with Gumbel noise: a sample without replacement.
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, state.index)
    shape = (beams, logits.shape[-1])
    noise = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
    noisy = logits + base + noise.reshape(logits.shape)
    order, tokens = jax.lax.top_k(noisy, kept)
    part = jnp.take_along_axis(logits, tokens, axis=1)
  else:
    part, tokens = jax.lax.top_k(logits, kept)
    order = part + base
  flat = (batch, beams * kept)
  chosen = jax.lax.top_k(order.reshape(flat), min(count, beams * kept))[1]

  def pick(x):
    return jnp.take_along_axis(x.reshape(flat), chosen, axis=1)

  return (
    pick(part + base),
    pick(part - total[:, None]),
    chosen // kept,
    pick(tokens),
  )


def warp(
  scores: Float[Array, 'R V'], plan: StaticOptions, numbers: DynamicOptions
) -> Float[Array, 'R V']:
  """Temperature, top-k, nucleus; at least two tokens stay, as beams need."""
  scores = scores / numbers.temperature
  if plan.top_k:
    kept = min(max(plan.top_k, 2), scores.shape[-1])
    least = jax.lax.top_k(scores, kept)[0][:, -1:]
    scores = jnp.where(scores < least, -jnp.inf, scores)
  if plan.nucleus:
    ordered = jax.lax.top_k(scores, scores.shape[-1])[0]
    probs = jax.nn.softmax(ordered)
    before = jnp.cumsum(probs, -1) - probs
    stay = (before < numbers.top_p) | (jnp.arange(scores.shape[-1]) < 2)
    least = jnp.where(stay, ordered, jnp.inf).min(-1, keepdims=True)
    scores = jnp.where(scores < least, -jnp.inf, scores)
  return scores


def running(
  state: Beams, plan: StaticOptions, numbers: DynamicOptions
) -> Bool[Array, '']:
  more = state.open
  if plan.early_stopping is True:
    more &= ~state.answers.finished.all(-1)
  return (state.index <= numbers.max_new_tokens) & more.any()


def last_tokens(state: Beams) -> Int[Array, 'R']:
  return state.running.sequences[:, :, state.index - 1].reshape(-1)


def finish(
  state: Beams, plan: StaticOptions, numbers: DynamicOptions
) -> Decoded:
  best = jax.tree.map(
    lambda x: x[:, : plan.num_return_sequences], state.answers
  )
  place = jnp.arange(plan.length) < best.lengths[..., None]
  return Decoded(
    jnp.where(place, best.sequences[..., 1:], 0),
    best.scores,
    jnp.where(place, best.log_probs, 0),
    best.lengths,
  )


def _can_improve(
  running: Hypotheses,
  answers: Hypotheses,
  length: Int[Array, ''],
  plan: StaticOptions,
  numbers: DynamicOptions,
) -> Bool[Array, 'B']:
  """Could the best beam beat the worst answer? transformers' heuristic."""
  best = length.astype(jnp.float32)
  if plan.early_stopping == 'never':
    longest = jnp.float32(numbers.max_new_tokens)
    best = jnp.where(numbers.length_penalty > 0, longest, best)
  best = running.scores[:, :1] / best**numbers.length_penalty
  worst = answers.scores.min(-1, keepdims=True)
  worst = jnp.where(answers.finished, worst, LOW)
  return (best > worst).any(-1)


def _gather(rows: Hypotheses, index: Int[Array, 'B M']) -> Hypotheses:
  def take(x):
    shape = (*index.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index.reshape(shape), axis=1)

  return Hypotheses(*map(take, rows))
