"""Greedy decoding and sampling where every row has options of its own.

Each row's token is the one that sampling.py gives a batch with these options.
What no row asks for is not computed: its program is there, but is not run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt32

from mmicl_jax.decoding.options import Options
from mmicl_jax.decoding.scores import largest, top_k
from mmicl_jax.types import EOS

FEW = 64  # top_k up to this needs no order of the whole vocabulary


class RowOptions(NamedTuple):
  """The options of R rows, or, on the host, of one row.

  top_k is 0 where all tokens stay. top: how many of the likeliest tokens are
  told beside the chosen one. seed: its upper and its lower 32 bits.
  """

  max_new_tokens: Int[Array, '*R']
  min_new_tokens: Int[Array, '*R']
  do_sample: Bool[Array, '*R']
  temperature: Float[Array, '*R']
  top_k: Int[Array, '*R']
  top_p: Float[Array, '*R']
  repetition_penalty: Float[Array, '*R']
  no_repeat_ngram_size: Int[Array, '*R']
  top: Int[Array, '*R']
  seed: UInt32[Array, '*R 2']
  number: UInt32[Array, '*R']


def row_options(options: Options, number: int, top: int = 0) -> RowOptions:
  """One row's options; number: what its samples depend on, with the seed."""
  seed = options.seed % 2**64
  top_k = options.top_k if options.do_sample else 0
  values: tuple[Any, ...] = (
    np.int32(options.max_new_tokens),
    np.int32(options.min_new_tokens),
    np.bool_(options.do_sample),
    np.float32(options.temperature),
    np.int32(top_k),
    np.float32(options.top_p),
    np.float32(options.repetition_penalty),
    np.int32(options.no_repeat_ngram_size),
    np.int32(top),
    np.array(divmod(seed, 2**32), np.uint32),
    np.uint32(number),
  )
  return RowOptions(*values)


def number_key(
  seed: UInt32[Array, '2'], number: UInt32[Array, '']
) -> Shaped[Array, '']:
  """The key that scores.row_keys makes, of a seed that is not compiled in."""
  key = jax.random.key(seed[1])
  key = jax.lax.cond(
    seed[0] > 0, lambda: jax.random.fold_in(key, seed[0]), lambda: key
  )
  return jax.random.fold_in(key, number)


def penalised(
  logits: Float[Array, 'R V'],
  sequences: Int[Array, 'R W'],
  index: Int[Array, 'R'],
  options: RowOptions,
  live: Bool[Array, 'R'],
) -> Float[Array, 'R V']:
  """As scores.process, for rows with `index` tokens and options of their own.

  live: whose result matters; if they all have the defaults nothing is computed.
  """

  def change(logits):
    rows = jnp.arange(len(logits))[:, None]
    # The zeros after the sequence do no harm: the start token is 0, too.
    said = jnp.take_along_axis(logits, sequences, axis=1)
    penalty = options.repetition_penalty[:, None]
    said = jnp.where(said < 0, said * penalty, said / penalty)
    logits = logits.at[rows, sequences].set(said)
    banned = jnp.where(_repeats(sequences, index, options), -jnp.inf, jnp.inf)
    logits = logits.at[rows, sequences].min(banned)
    early = index - 1 < options.min_new_tokens
    end = jnp.where(early, -jnp.inf, logits[:, EOS])
    return logits.at[:, EOS].set(end)

  asked = (options.repetition_penalty != 1) | (options.min_new_tokens > 0)
  asked |= options.no_repeat_ngram_size > 0
  return jax.lax.cond((asked & live).any(), change, lambda x: x, logits)


def chosen(
  logits: Float[Array, 'R V'],
  keys: Shaped[Array, 'R'],
  options: RowOptions,
  live: Bool[Array, 'R'],
) -> Int[Array, 'R']:
  """Each row's likeliest token or, where asked, one drawn at random.

  As sampling.draw. live: whose result matters; the work is what these need.
  """
  vocabulary = logits.shape[-1]
  ordered = options.do_sample & ((options.top_k > 0) | (options.top_p < 1))
  few = (options.top_k > 0) & (options.top_k <= FEW)

  def sample():
    scores = logits / options.temperature[:, None]
    # An entry depends on its place alone, so the first ones are those that a
    # shorter vector would have.
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (vocabulary,)))(keys)
    free = largest(scores + noise)

    def cut(kept: int):
      values, ids = top_k(scores, kept)
      limit, top_p = options.top_k[:, None], options.top_p[:, None]
      stay = (jnp.arange(kept) < limit) | (limit == 0)
      values = jnp.where(stay, values, -jnp.inf)
      probs = jax.nn.softmax(values)
      before = jnp.cumsum(probs, -1) - probs
      values = jnp.where((before < top_p) | (top_p >= 1), values, -jnp.inf)
      best = largest(values + noise[:, :kept])
      return jnp.take_along_axis(ids, best[:, None], axis=1)[:, 0]

    level = jnp.where(ordered, jnp.where(few, 1, 2), 0)
    drawn = jax.lax.switch(
      jnp.where(live, level, 0).max(),
      [
        lambda: free,
        lambda: cut(min(FEW, vocabulary)),
        lambda: cut(vocabulary),
      ],
    )
    drawn = jnp.where(ordered, drawn, free)
    return jnp.where(options.do_sample, drawn, largest(logits))

  sampled = (options.do_sample & live).any()
  return jax.lax.cond(sampled, sample, lambda: largest(logits))


def likeliest(
  log_probs: Float[Array, 'R V'],
  count: int,
  options: RowOptions,
  live: Bool[Array, 'R'],
) -> tuple[Int[Array, 'R C'], Float[Array, 'R C']]:
  """The `count` likeliest tokens of each row, if a row asks for any."""
  kept = min(count, log_probs.shape[-1])

  def find():
    values, ids = top_k(log_probs, kept)
    return ids, values

  def nothing():
    shape = len(log_probs), kept
    return jnp.zeros(shape, jnp.int32), jnp.zeros(shape)

  return jax.lax.cond(((options.top > 0) & live).any(), find, nothing)


def _repeats(
  sequences: Int[Array, 'R W'], index: Int[Array, 'R'], options: RowOptions
) -> Bool[Array, 'R W']:
  """The places of tokens that would end an n-gram which was there before."""
  width = sequences.shape[1]
  place = jnp.arange(width)
  size = options.no_repeat_ngram_size[:, None]
  # back[r, i, p]: the tokens that stand i before place p and before the end.
  # Gathered beyond the start they are wrong, but no window is complete there.
  steps = jnp.arange(1, width)[:, None]
  earlier = sequences[:, jnp.maximum(place - steps, 0)]
  last = jnp.maximum(index[:, None] - steps[:, 0], 0)
  newest = jnp.take_along_axis(sequences, last, axis=1)
  same = earlier == newest[..., None]
  needed = steps < size[..., None]
  whole = (same | ~needed).all(1)
  inside = (place >= size - 1) & (place < index[:, None])
  return whole & inside & (size > 0)
