"""The dimension alphabet of the project, batches, and where they come from.

B batch   R rows (batch x beams)   N images a row   T/U encoder/decoder length
S length attended to   H heads   K width of a head   D T5 width   E tower width
P patches and the class token   Q queries an image   V vocabulary   L layers
"""

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, Protocol, TypedDict, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

PAD, EOS, START = 0, 1, 0  # T5's: the decoder starts with the pad token

Images = UInt8[jax.Array, 'B N H W 3'] | Float[jax.Array, 'B N H W 3']


def without_padding(row: Any) -> Int[np.ndarray, 'T']:
  """The ids of one row up to its last token."""
  return np.trim_zeros(np.asarray(row), 'b')  # PAD is 0


class Batch(TypedDict):
  """Arrays of one step; floating images count as normalised already."""

  encoder_input_tokens: Int[jax.Array, 'B T']
  encoder_images: NotRequired[Images]  # absent: text only
  # What the Q-Former gives for them, in their place (data/feature_store.py).
  encoder_features: NotRequired[Float[jax.Array, 'B N Q E']]
  decoder_input_tokens: Int[jax.Array, 'B U']
  decoder_target_tokens: Int[jax.Array, 'B U']
  decoder_loss_weights: Int[jax.Array, 'B U']
  qformer_input_tokens: NotRequired[Int[jax.Array, 'B S']]


@runtime_checkable
class BatchSource(Protocol):
  """This process's share of each batch, and where in the data it stands.

  iter() starts at the state and yields (batch, anything); the state, of JSON
  values, is the place behind the last batch. Attributes may say what was lost:
  `skipped`, `truncated`, `cut_answers` and `first_truncated` of the loader of
  records, data.loader.Loader, which is a source of batches.
  """

  def __iter__(self) -> Iterator[tuple[Mapping[str, np.ndarray], Any]]: ...

  def get_state(self) -> Any: ...

  def set_state(self, state: Any) -> None: ...
