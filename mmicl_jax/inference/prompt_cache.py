"""Prompts that were read: their keys and values, to be asked again.

T5's encoder looks both ways, so the reading of a prompt serves other
candidates, options and calls on the same prompt, never a longer one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from mmicl_jax.decoding.loop import Memory
from mmicl_jax.runtime.lru import Lru


class PromptCache:
  """Batches of prompts as the decoder reads them, on the device.

  A list of prompts is found if one batch holds them all, in any order: then
  its rows are taken, and nothing is encoded.
  """

  def __init__(self, max_bytes: int):
    self._batches: Lru[tuple[bytes, ...], Memory] = Lru(max_bytes)

  def clear(self) -> None:
    self._batches.clear()

  def put(self, keys: Sequence[bytes], prompt: Memory) -> None:
    """keys: of the first rows, all different; rows behind them are empty."""
    size = sum(x.nbytes for x in jax.tree.leaves(prompt))
    self._batches.put(tuple(keys), prompt, size)

  def find(self, keys: Sequence[bytes], rows: int) -> Memory | None:
    """The prompts in `rows` rows, the last ones empty; None if unknown."""
    wanted = set(keys)
    for known in self._batches:
      if wanted.issubset(known) and (batch := self._batches.get(known)):
        return select(batch, known, keys, rows)
    return None


def select(
  prompt: Memory, known: Sequence[bytes], keys: Sequence[bytes], rows: int
) -> Memory:
  """Rows of a batch whose first ones are `known`, by key; the rest empty."""
  if list(known) == list(keys) and rows == len(prompt.is_token):
    return prompt
  row_of = {key: row for row, key in enumerate(known)}
  places = np.full(rows, np.iinfo(np.int32).max, np.int32)
  places[: len(keys)] = [row_of[key] for key in keys]
  return _take(prompt, places)


@jax.jit
def _take(prompt: Memory, rows: Int[jax.Array, 'R']) -> Memory:
  """Rows out of range become zeros: no token, so an empty prompt."""
  return jax.tree.map(
    lambda x: jnp.take(x, rows, axis=0, mode='fill', fill_value=0), prompt
  )
