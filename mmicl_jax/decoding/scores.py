"""What all strategies share: answers, random keys, penalties, stop states."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt32

from mmicl_jax.decoding.options import DynamicOptions, StaticOptions
from mmicl_jax.models.products import for_cpu
from mmicl_jax.types import START

# Leaves of T5X models' caches that have no axis of rows.
SHARED_LEAVES = ('cache_index', 'cached_bias', 'position_embedder_index')

BLOCK = 128  # values of which top_k first looks at the largest


class Decoded(NamedTuple):
  """K answers of each example; tokens after the end are 0.

  Beams come best first, samples in the order they were drawn.
  scores: the sum of log-probabilities divided by lengths ** length_penalty.
  Both the sum and lengths include the end token.
  """

  tokens: Int[Array, 'B K U']
  scores: Float[Array, 'B K']
  log_probs: Float[Array, 'B K U']
  lengths: Int[Array, 'B K']


def row_keys(seed: int, rows: UInt32[Array, 'B']) -> Shaped[Array, 'B']:
  """Makes a random key for each row from the seed and the row's number.

  So a row's samples do not depend on its batch.
  """
  # jax.random.key would take only the lower 32 bits of the seed.
  high, low = divmod(seed % 2**64, 2**32)
  key = jax.random.key(np.uint32(low))
  if high:
    key = jax.random.fold_in(key, np.uint32(high))
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def largest(x: Float[Array, '*R V']) -> Int[Array, '*R']:
  """The argmax over the last axis; the first one if values are equal.

  On a CPU, XLA's own argmax is a scalar loop and several times slower.
  """
  size = x.shape[-1]
  iota = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  best = x == x.max(-1, keepdims=True)
  # NaN equals nothing, so `best` may be empty; stay inside the vocabulary.
  return jnp.minimum(jnp.where(best, iota, size).min(-1), size - 1)


def top_k(
  x: Float[Array, '*R V'], k: int
) -> tuple[Float[Array, '*R K'], Int[Array, '*R K']]:
  """The k largest of the last axis and their places, as jax.lax.top_k.

  On a CPU, XLA's own is a scalar loop over all of the axis. There the k blocks
  with the largest maxima are found first; none of the k largest lies elsewhere.
  """
  *rows, size = x.shape
  if 4 * k * BLOCK > size or not for_cpu():
    values, places = jax.lax.top_k(x, k)
    return values, places
  lacking = -size % BLOCK
  x = jnp.pad(
    x, [(0, 0)] * len(rows) + [(0, lacking)], constant_values=-jnp.inf
  )
  x = x.reshape(*rows, -1, BLOCK)
  # In their order, so that the first of equal values stays the first.
  blocks = jnp.sort(jax.lax.top_k(x.max(-1), k)[1])
  candidates = jnp.take_along_axis(x, blocks[..., None], axis=-2)
  values, found = jax.lax.top_k(candidates.reshape(*rows, k * BLOCK), k)
  block = jnp.take_along_axis(blocks, found // BLOCK, axis=-1)
  return values, block * BLOCK + found % BLOCK


def process(
  logits: Float[Array, 'R V'],
  sequences: Int[Array, 'R W'],
  index: Int[Array, ''],
  static: StaticOptions,
  dynamic: DynamicOptions,
) -> Float[Array, 'R V']:
  """Applies repetition penalty, the ban on repeated n-grams, minimum length.

  sequences: the start token, `index - 1` new tokens, then zeros. As in
  transformers, the start token counts as a token that was said.
  """
  rows = jnp.arange(len(logits))[:, None]
  if static.repetition:
    # The zeros after the sequence do no harm: the start token is 0, too.
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
        # Clipping only happens to sequences shorter than an n-gram, of which
        # no window is complete.
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
  """Sequences of the start token, with zeros in the places of new tokens."""
  return jnp.full((*rows, static.length + 1), START, jnp.int32)


def next_stop_states(
  states: Int[Array, '*R'],
  tokens: Int[Array, '*R'],
  stops: Int[Array, 'S V'] | None,
) -> tuple[Int[Array, '*R'], Bool[Array, '*R']]:
  """Follows the table of `stops.stop_table`: (new states, which rows end)."""
  if stops is None:
    return states, jnp.zeros(states.shape, bool)
  states = stops[jnp.maximum(states, 0), tokens]
  return states, states < 0


def take_rows(cache: PyTree, rows: Int[Array, 'R'], axis: int = 0) -> PyTree:
  """The cache with its rows in the order of `rows`; `axis` is that of rows."""

  def take(path: Any, x: jax.Array) -> jax.Array:
    name = getattr(path[-1], 'key', None) if path else None
    return x if name in SHARED_LEAVES else jnp.take(x, rows, axis=axis)

  return jax.tree_util.tree_map_with_path(take, cache)
