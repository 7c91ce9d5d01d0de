"""Greedy decoding and sampling: each row gets its next token by itself."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmicl_jax.decoding.options import DynamicOptions, StaticOptions
from mmicl_jax.decoding.scores import (
  Decoded,
  largest,
  next_stop_states,
  process,
  start_sequences,
  top_k,
)


class Samples(NamedTuple):
  """The state of R rows.

  sequences: the start token, the new tokens, then zeros. index: how many
  tokens each row has, with the start token. keys: one for each row, if tokens
  are drawn.
  """

  sequences: Int[Array, 'R W']
  log_probs: Float[Array, 'R U']
  done: Bool[Array, 'R']
  lengths: Int[Array, 'R']
  stop_states: Int[Array, 'R']
  keys: Shaped[Array, 'R'] | None
  index: Int[Array, '']
  cache: Any


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Takes each row's likeliest token or, with do_sample, draws one at random.

  Its methods are those of strategy.Strategy.
  """

  static: StaticOptions

  def start(
    self,
    valid: Bool[Array, 'B'],
    keys: Shaped[Array, 'B'] | None,
    cache: Any,
  ) -> Samples:
    per_example = self.static.num_return_sequences
    rows = len(valid) * per_example
    if self.static.do_sample and keys is not None:
      fold = jax.vmap(jax.random.fold_in, (None, 0))
      places = jnp.arange(per_example)
      keys = jax.vmap(fold, (0, None))(keys, places).reshape(rows)
    return Samples(
      sequences=start_sequences((rows,), self.static),
      log_probs=jnp.zeros((rows, self.static.length)),
      done=jnp.repeat(~valid, per_example),
      lengths=jnp.zeros(rows, jnp.int32),
      stop_states=jnp.zeros(rows, jnp.int32),
      keys=keys if self.static.do_sample else None,
      index=jnp.int32(1),
      cache=cache,
    )

  def update(
    self,
    state: Samples,
    logits: Float[Array, 'R V'],
    dynamic: DynamicOptions,
    stops: Int[Array, 'S V'] | None,
  ) -> Samples:
    """Adds a token to every row that is not done."""
    index = state.index
    scores = process(logits, state.sequences, index, self.static, dynamic)
    if self.static.do_sample and state.keys is not None:
      keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, index)
      tokens = draw(scores, keys, self.static, dynamic)
    else:
      tokens = largest(scores)
    tokens = jnp.where(state.done, 0, tokens)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    log_prob = chosen - jax.nn.logsumexp(logits, axis=-1)
    stop_states, stopped = next_stop_states(state.stop_states, tokens, stops)
    return state._replace(
      sequences=state.sequences.at[:, index].set(tokens),
      log_probs=state.log_probs.at[:, index - 1].set(
        jnp.where(state.done, 0, log_prob)
      ),
      lengths=jnp.where(state.done, state.lengths, index),
      done=state.done | (tokens == self.static.eos) | stopped,
      stop_states=stop_states,
      index=index + 1,
    )

  def running(self, state: Samples, dynamic: DynamicOptions) -> Bool[Array, '']:
    return (state.index <= dynamic.max_new_tokens) & ~state.done.all()

  def last_tokens(self, state: Samples) -> Int[Array, 'R']:
    return state.sequences[:, state.index - 1]

  def finish(self, state: Samples, dynamic: DynamicOptions) -> Decoded:
    """The samples of each example in the order of their numbers, not scores."""
    shape = (-1, self.static.num_return_sequences)
    total = state.log_probs.sum(-1)
    length = jnp.maximum(state.lengths, 1).astype(jnp.float32)
    return Decoded(
      state.sequences[:, 1:].reshape(*shape, self.static.length),
      (total / length**dynamic.length_penalty).reshape(shape),
      state.log_probs.reshape(*shape, self.static.length),
      state.lengths.reshape(shape),
    )


def draw(
  logits: Float[Array, 'R V'],
  keys: Shaped[Array, 'R'],
  static: StaticOptions,
  dynamic: DynamicOptions,
) -> Int[Array, 'R']:
  """Draws a token for each row after temperature, top-k and nucleus."""
  values, ids = logits / dynamic.temperature, None
  vocabulary = logits.shape[-1]
  if static.top_k or static.nucleus:
    kept = min(static.top_k, vocabulary) if static.top_k else vocabulary
    values, ids = top_k(values, kept)
  if static.nucleus:
    probs = jax.nn.softmax(values)
    before = jnp.cumsum(probs, -1) - probs  # 0 for the likeliest, so it stays
    values = jnp.where(before < dynamic.top_p, values, -jnp.inf)
  noise = jax.vmap(lambda key: jax.random.gumbel(key, values.shape[1:]))(keys)
  choice = largest(values + noise)
  if ids is None:
    return choice
  return jnp.take_along_axis(ids, choice[:, None], axis=1)[:, 0]
