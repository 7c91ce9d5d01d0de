"""Beam search as in transformers; an example's batch does not affect it.

Every step finds the 2 x beams best continuations. Of the best `beams` among
them, those that end compete for a place among the example's answers, by
score / length ** length_penalty. The best that do not end are the next beams.
Source: GenerationMixin._beam_search of transformers 5.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

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
  top_k,
)

LOW = -1e9  # transformers' score of beams that must not go on


class Hypotheses(NamedTuple):
  """K sequences of each example: either the running ones or the answers.

  sequences: with the start token, which lengths do not count. scores: sums of
  log-probabilities; those of answers are divided by length ** length_penalty.
  finished: which of the K places hold an answer; the others score -inf.
  """

  sequences: Int[Array, 'B K W']
  scores: Float[Array, 'B K']
  log_probs: Float[Array, 'B K U']
  stop_states: Int[Array, 'B K']
  finished: Bool[Array, 'B K']
  lengths: Int[Array, 'B K']


class Beams(NamedTuple):
  """The state of a search over B examples with K beams each.

  open: whether one of the example's running beams may still beat an answer.
  index: how many tokens each running beam has, with the start token.
  """

  running: Hypotheses
  answers: Hypotheses
  open: Bool[Array, 'B']
  keys: Shaped[Array, 'B'] | None
  index: Int[Array, '']
  cache: Any


@dataclasses.dataclass(frozen=True)
class BeamSearch:
  """Finds the likeliest sequences of each example.

  Its methods are those of strategy.Strategy.
  """

  static: StaticOptions
  # 1 if the test for the end of a search counts the start token.
  start_counts: ClassVar[int] = 0

  def start(
    self,
    valid: Bool[Array, 'B'],
    keys: Shaped[Array, 'B'] | None,
    cache: Any,
  ) -> Beams:
    shape = (len(valid), self.static.num_beams)
    empty = Hypotheses(
      sequences=start_sequences(shape, self.static),
      scores=jnp.full(shape, -jnp.inf),
      log_probs=jnp.zeros((*shape, self.static.length)),
      stop_states=jnp.zeros(shape, jnp.int32),
      finished=jnp.zeros(shape, bool),
      lengths=jnp.zeros(shape, jnp.int32),
    )
    # All beams are the same at first, so only the first one may count.
    alike = jnp.full(shape, LOW).at[:, 0].set(0)
    running = empty._replace(scores=alike)
    keys = keys if self.static.do_sample else None
    return Beams(running, empty, valid, keys, jnp.int32(1), cache)

  def update(
    self,
    state: Beams,
    logits: Float[Array, 'R V'],
    dynamic: DynamicOptions,
    stops: Int[Array, 'S V'] | None,
  ) -> Beams:
    """Adds a token to every beam; beams that end may become answers."""
    beams = self.static.num_beams
    found, parents = self._extend(state, logits, dynamic, stops)
    ended = found.finished

    # Which beams go on: 2 x beams candidates hold enough that do not end.
    going = found._replace(
      scores=found.scores + ended * LOW, finished=jnp.zeros_like(ended)
    )
    order = jax.lax.top_k(going.scores, beams)[1]
    running = _gather(going, order)
    source = jnp.take_along_axis(parents, order, axis=1)
    source += beams * jnp.arange(len(source))[:, None]

    # Which beams become answers: those that ended compete with the answers.
    wins = ended & (jnp.arange(ended.shape[1]) < beams)
    answers = best_answers(
      state, found._replace(finished=wins), state.index, dynamic
    )

    # Without a batch, a search whose candidates all ended would stop here.
    is_open = state.open & ~ended.all(-1)
    best = self._best(found, running)
    is_open &= self._can_improve(best, answers, state.index, dynamic)
    if self.static.early_stopping is True:
      is_open &= ~answers.finished.all(-1)
    cache = take_rows(state.cache, source.reshape(-1), self.static.cache_axis)
    return Beams(running, answers, is_open, state.keys, state.index + 1, cache)

  def running(self, state: Beams, dynamic: DynamicOptions) -> Bool[Array, '']:
    return (state.index <= dynamic.max_new_tokens) & state.open.any()

  def last_tokens(self, state: Beams) -> Int[Array, 'R']:
    return state.running.sequences[:, :, state.index - 1].reshape(-1)

  def finish(self, state: Beams, dynamic: DynamicOptions) -> Decoded:
    best = jax.tree.map(
      lambda x: x[:, : self.static.num_return_sequences], state.answers
    )
    place = jnp.arange(self.static.length) < best.lengths[..., None]
    return Decoded(
      jnp.where(place, best.sequences[..., 1:], 0),
      jnp.where(best.finished, best.scores, LOW),
      jnp.where(place, best.log_probs, 0),
      best.lengths,
    )

  def _extend(
    self,
    state: Beams,
    logits: Float[Array, 'R V'],
    dynamic: DynamicOptions,
    stops: Int[Array, 'S V'] | None,
  ) -> tuple[Hypotheses, Int[Array, 'B M']]:
    """Returns (the best M = 2 x beams continuations, the beam each extends).

    In the former `finished` marks those that are answers now.
    """
    index = state.index
    scores, log_probs, parents, tokens = continuations(
      state, logits, self.static, dynamic
    )
    rows = _gather(state.running, parents)
    stop_states, stopped = next_stop_states(rows.stop_states, tokens, stops)
    ended = (tokens == self.static.eos) | stopped
    return Hypotheses(
      sequences=rows.sequences.at[:, :, index].set(tokens),
      scores=scores,
      log_probs=rows.log_probs.at[:, :, index - 1].set(log_probs),
      stop_states=stop_states,
      finished=self._are_answers(ended, index, dynamic),
      lengths=jnp.full_like(rows.lengths, index),
    ), parents

  def _are_answers(
    self,
    ended: Bool[Array, 'B M'],
    length: Int[Array, ''],
    dynamic: DynamicOptions,
  ) -> Bool[Array, 'B M']:
    """Which are answers: those that ended; at the greatest length, all."""
    return ended | (length >= dynamic.max_new_tokens)

  def _best(self, found: Hypotheses, running: Hypotheses) -> Float[Array, 'B']:
    """The sum of log-probabilities that `_can_improve` tests."""
    del found
    return running.scores[:, 0]

  def _can_improve(
    self,
    best: Float[Array, 'B'],
    answers: Hypotheses,
    length: Int[Array, ''],
    dynamic: DynamicOptions,
  ) -> Bool[Array, 'B']:
    """Whether a beam with the sum `best` could still beat the worst answer.

    As in transformers this is a guess. It divides the beam's present sum of
    log-probabilities by its present length or, with early_stopping 'never', by
    the greatest possible length.
    """
    tokens = length.astype(jnp.float32)
    if self.static.early_stopping == 'never':
      longest = jnp.float32(dynamic.max_new_tokens)
      tokens = jnp.where(dynamic.length_penalty > 0, longest, tokens)
    tokens += self.start_counts
    return best / tokens**dynamic.length_penalty > answers.scores.min(-1)


def best_answers(
  state: Beams,
  ended: Hypotheses,
  length: Int[Array, ''],
  dynamic: DynamicOptions,
) -> Hypotheses:
  """The best K among the answers so far and the beams that ended now.

  ended: beams with sums of log-probabilities as scores, which are divided by
  length ** length_penalty here. ended.finished: which of them compete; those
  of an example that is not open do not.
  """
  scores = ended.scores / length.astype(jnp.float32) ** dynamic.length_penalty
  competes = ended.finished & state.open[:, None]
  ended = ended._replace(scores=jnp.where(competes, scores, -jnp.inf))
  both = jax.tree.map(
    lambda a, b: jnp.concatenate([a, b], axis=1), state.answers, ended
  )
  kept = state.answers.scores.shape[1]
  return _gather(both, jax.lax.top_k(both.scores, kept)[1])


def continuations(
  state: Beams,
  logits: Float[Array, 'R V'],
  static: StaticOptions,
  dynamic: DynamicOptions,
) -> tuple[
  Float[Array, 'B M'], Float[Array, 'B M'], Int[Array, 'B M'], Int[Array, 'B M']
]:
  """The M = 2 x beams likeliest continuations of each example's beams.

  Returns for each one: the sum of its log-probabilities, the new token's part
  of that sum, the beam that it extends, and the new token.
  """
  batch, beams = state.running.scores.shape
  count = 2 * beams
  total = jax.nn.logsumexp(logits, axis=-1)
  if static.repetition or static.no_repeat_ngram_size or static.min_length:
    sequences = state.running.sequences.reshape(batch * beams, -1)
    logits = process(
      logits - total[:, None], sequences, state.index, static, dynamic
    )
    total = jnp.zeros_like(total)
  if static.do_sample:
    logits = warp(logits - total[:, None], static, dynamic)
    total = jnp.zeros_like(total)
  kept = min(count, logits.shape[-1])
  base = state.running.scores.reshape(-1, 1) - total[:, None]
  if static.do_sample and state.keys is not None:
    # The largest scores with Gumbel noise are a sample without replacement.
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, state.index)
    shape = (beams, logits.shape[-1])
    noise = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
    noisy = logits + base + noise.reshape(logits.shape)
    order, tokens = top_k(noisy, kept)
    part = jnp.take_along_axis(logits, tokens, axis=1)
  else:
    part, tokens = top_k(logits, kept)
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
  scores: Float[Array, 'R V'], static: StaticOptions, dynamic: DynamicOptions
) -> Float[Array, 'R V']:
  """Scores after temperature, top-k and nucleus, in this order.

  At least two tokens of each row stay possible, so that a beam can go on even
  if one of them is the end. Source: transformers' logits warpers with
  min_tokens_to_keep=2.
  """
  scores = scores / dynamic.temperature
  if static.top_k:
    kept = min(max(static.top_k, 2), scores.shape[-1])
    least = top_k(scores, kept)[0][:, -1:]
    scores = jnp.where(scores < least, -jnp.inf, scores)
  if static.nucleus:
    ordered = jax.lax.top_k(scores, scores.shape[-1])[0]
    probs = jax.nn.softmax(ordered)
    before = jnp.cumsum(probs, -1) - probs
    stay = (before < dynamic.top_p) | (jnp.arange(scores.shape[-1]) < 2)
    least = jnp.where(stay, ordered, jnp.inf).min(-1, keepdims=True)
    scores = jnp.where(scores < least, -jnp.inf, scores)
  return scores


def _gather(rows: Hypotheses, index: Int[Array, 'B M']) -> Hypotheses:
  def take(x):
    shape = (*index.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index.reshape(shape), axis=1)

  return Hypotheses(*map(take, rows))
