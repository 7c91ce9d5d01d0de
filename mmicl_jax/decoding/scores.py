"""What all strategies share: answers, random keys, changed scores, stops."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt32

from mmicl_jax.decoding.options import DynamicOptions, StaticOptions
from mmicl_jax.types import START

# Leaves of T5X models' caches that have no rows.
SHARED_LEAVES = ('cache_index', 'cached_bias', 'position_embedder_index')


class Decoded(NamedTuple):
  """Answers of each example, the best first; tokens after the end are 0.

  scores: sum of log-probabilities (the end token's included) divided by
  lengths ** length_penalty; lengths counts the end token.
  """

  tokens: Int[Array, 'B K U']
  scores: Float[Array, 'B K']
  log_probs: Float[Array, 'B K U']
  lengths: Int[Array, 'B K']


def row_keys(seed: int, rows: UInt32[Array, 'B']) -> Shaped[Array, 'B']:
  """A key for each row from the seed and the row's own number.

  A row's samples then do not depend on what else is in its batch.
  """
  # A key made of the seed would hold its lower 32 bits alone.
  high, low = divmod(seed % 2**64, 2**32)
  key = jax.random.key(np.uint32(low))
  if high:
    key = jax.random.fold_in(key, np.uint32(high))
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def largest(x: Float[Array, '*R V']) -> Int[Array, '*R']:
  """The argmax over the last axis; of equal values the first.

  XLA's own argmax is a scalar loop on a CPU and several times slower.
  """
  size = x.shape[-1]
  iota = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  best = x == x.max(-1, keepdims=True)
  # Not-a-number equals nothing: stay inside the vocabulary all the same.
  return jnp.minimum(jnp.where(best, iota, size).min(-1), size - 1)


def process(
  logits: Float[Array, 'R V'],
  sequences: Int[Array, 'R W'],
  index: Int[Array, ''],
  static: StaticOptions,
  dynamic: DynamicOptions,
) -> Float[Array, 'R V']:
  """Scores after repetition penalty, no-repeat n-grams and minimum length.

  sequences: the start token and `index - 1` new ones, then zeros. The start
  token counts as said, as in transformers.
  """
  rows = jnp.arange(len(logits))[:, None]
  if static.repetition:
    # Zeros behind the sequence are harmless: the start token is 0 as well.
    said = jnp.take_along_axis(logits, sequences, axis=1)
    penalty = dynamic.repetition_penalty
    said = jnp.where(said < 0, said * penalty, said / penalty)
    logits = logits.at[rows, sequences].set(said)
  if size := static.no_repeat_ngram_size:
    windows = sequences.shape[1] - size + 1
    if windows > 0:
      place = jnp.arange(windows)
      repeated = jnp.broadcast_to(
        place + size - 1 < index, (len(logits), windows)
      )
      for i in range(size - 1):
        # Clipped where the sequence is shorter than an n-gram: no window then.
        last = jnp.take(sequences, index - size + 1 + i, axis=1, mode='clip')
        repeated &= sequences[:, i : i + windows] == last[:, None]
      banned = jnp.where(repeated, -jnp.inf, jnp.inf)
      logits = logits.at[rows, sequences[:, size - 1 :]].min(banned)
  if static.min_length:
    early = index - 1 < dynamic.min_new_tokens
    end = jnp.where(early, -jnp.inf, logits[:, static.eos])
    logits = logits.at[:, static.eos].set(end)
  return logits


def start_sequences(
  rows: tuple[int, ...], static: StaticOptions
) -> Int[Array, '... W']:
  """The start token, and room for new tokens behind it."""
  return jnp.full((*rows, static.length + 1), START, jnp.int32)


def next_stop_states(
  states: Int[Array, '*R'],
  tokens: Int[Array, '*R'],
  stops: Int[Array, 'S V'] | None,
) -> tuple[Int[Array, '*R'], Bool[Array, '*R']]:
  """Follows a table of `stops.stop_table`: new states, and which rows end."""
  if stops is None:
    return states, jnp.zeros(states.shape, bool)
  states = stops[jnp.maximum(states, 0), tokens]
  return states, states < 0


def take_rows(cache: PyTree, rows: Int[Array, 'R'], axis: int = 0) -> PyTree:
  """The cache of the tokens so far with its rows in another order."""

  def take(path: Any, x: jax.Array) -> jax.Array:
    name = getattr(path[-1], 'key', None) if path else None
    return x if name in SHARED_LEAVES else jnp.take(x, rows, axis=axis)

  return jax.tree_util.tree_map_with_path(take, cache)
