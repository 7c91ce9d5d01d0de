"""Refuses options that a model or its devices cannot possibly meet."""

import os

import jax
import jax.numpy as jnp

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig

GIB = 2**30


def check_room(options: Options, config: MMICLConfig, prompts: int) -> None:
  """Raises UserError if the vocabulary or the memory is certainly too small.

  prompts: how many are answered at a time. Only memory that is needed in any
  case counts: the keys and values of all new tokens, and one step's logits.
  """
  if options.num_beams >= config.t5.vocab_size:
    raise UserError(
      f'num_beams is {options.num_beams}, but the vocabulary has '
      f'{config.t5.vocab_size} tokens: search with fewer beams.'
    )
  rows = prompts * max(options.num_beams, options.num_return_sequences)
  needed = rows * _row_bytes(config, options.max_new_tokens)
  memory = device_memory()
  if needed > memory:
    raise UserError(
      f'{options.max_new_tokens} new tokens of {rows} sequences at a time need '
      f'{needed / GIB:.0f} GiB of {memory / GIB:.0f} GiB: give a smaller '
      'max_new_tokens, num_beams, num_return_sequences or batch_size.'
    )


def device_memory() -> int:
  """Bytes of memory of all devices together; on CPUs, of the machine."""
  limits = [(d.memory_stats() or {}).get('bytes_limit') for d in jax.devices()]
  known = [limit for limit in limits if limit]
  if len(known) == len(limits):
    return sum(known)
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _row_bytes(config: MMICLConfig, length: int) -> int:
  t5 = config.t5
  each = jnp.dtype(config.execution.dtype).itemsize
  cache = 2 * t5.num_decoder_layers * t5.num_heads * t5.head_dim * each
  return length * cache + 4 * t5.vocab_size
