"""Our decoding under the signature of T5X's DecodeFnCallable.

By gin, any T5X model can use `decode_fn` instead of t5x.decoding's functions.
T5X itself is not imported: only its signature is needed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmicl_jax.decoding import loop
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.scores import take_rows
from mmicl_jax.decoding.strategy import strategy_of
from mmicl_jax.types import EOS, START


class DecodingState(NamedTuple):
  """What tokens_to_logits is called with, under T5X's names."""

  cur_index: Int[Array, '']  # tokens before the current one
  cur_token: Int[Array, 'R 1']
  cache: Any


def decode_fn(
  *,
  inputs: Int[Array, 'B U'],
  cache: Any,
  tokens_to_logits: Callable[[Any], tuple[jax.Array, Any]],
  eos_id: int = EOS,
  num_decodes: int = 1,
  decode_rng: jax.Array | None = None,
  cache_offset: int = 0,
  do_sample: bool = False,
  max_decode_len: int | None = None,
  **options: Any,
) -> tuple[Int[Array, 'B K U'], Float[Array, 'B K']]:
  """Finds `num_decodes` sequences for each example; returns (tokens, scores).

  The best comes LAST, as in T5X. It runs beam search with `num_decodes` beams,
  greedy if there is one, or draws as many samples if do_sample.
  inputs: only its shape counts; decoding begins with T5's start token 0 and
  runs for U tokens. cache: has one row for each example on axis `cache_offset`,
  which is repeated here for each decode. decode_rng: needed by do_sample;
  raises ValueError without it. options: more fields of `options.Options`.
  """
  batch, length = inputs.shape
  static, dynamic = split_options(
    Options(
      num_beams=1 if do_sample else num_decodes,
      num_return_sequences=num_decodes,
      max_new_tokens=max_decode_len or length,
      do_sample=do_sample,
      **options,
    ),
    length,
  )
  strategy = strategy_of(
    dataclasses.replace(static, eos=eos_id, cache_axis=cache_offset)
  )
  keys = None
  if do_sample:
    if decode_rng is None:
      raise ValueError('do_sample needs a decode_rng')
    keys = jax.random.split(decode_rng, batch)

  def step(tokens, cache, position):
    return tokens_to_logits(DecodingState(position, tokens, cache))

  rows = jnp.arange(batch).repeat(num_decodes)
  start = jnp.full((len(rows), 1), START, jnp.int32)
  cache = take_rows(cache, rows, cache_offset)
  logits, cache = step(start, cache, jnp.int32(0))
  valid = jnp.ones(batch, bool)
  state = strategy.start(valid, keys, cache)
  state = strategy.update(state, logits, dynamic, None)
  state = loop.advance(state, step, strategy, dynamic)
  found = strategy.finish(state, dynamic)
  order = jnp.argsort(found.scores, axis=1)
  tokens = jnp.take_along_axis(found.tokens, order[..., None], axis=1)
  return tokens, jnp.take_along_axis(found.scores, order, axis=1)
