"""The letters of dimensions, the Batch, and the interface of its sources.

B batch   R rows (batch x beams)   N images per row   T/U encoder/decoder length
S length attended to   H heads   K width of a head   D T5 width   E tower width
P patches and class token   Q queries per image   V vocabulary   L layers
G groups of rows that share their images
"""

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, Protocol, TypedDict, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from mmicl_jax.errors import UserError, check_type

PAD, EOS, START = 0, 1, 0  # T5's ids; its decoder starts with padding

Images = UInt8[jax.Array, 'B N H W 3'] | Float[jax.Array, 'B N H W 3']


def without_padding(row: Any) -> Int[np.ndarray, 'T']:
  """The ids of a row up to its last token."""
  return np.trim_zeros(np.asarray(row), 'b')  # PAD is 0


class Batch(TypedDict):
  """The arrays of one step; images are u8, or floats if already normalised.

  Images may be packed: with encoder_image_starts, the first axis of images (or
  features) is G, which divides B. B/G consecutive rows share a group's images,
  and the array says which of them is each row's first. qformer_input_tokens
  then has the words of each image.

  Rows may hold several examples: with encoder_segment_ids and
  decoder_segment_ids, the number of each token's example in its row, from 1 on,
  and 0 for padding. Positions are those in the example, as seqio gives them;
  T5's relative ones need none.
  """

  encoder_input_tokens: Int[jax.Array, 'B T']
  encoder_images: NotRequired[Images]  # absent if there is only text
  # The Q-Former's output instead of images (data/feature_store.py).
  encoder_features: NotRequired[Float[jax.Array, 'B N Q E']]
  decoder_input_tokens: Int[jax.Array, 'B U']
  decoder_target_tokens: Int[jax.Array, 'B U']
  decoder_loss_weights: Int[jax.Array, 'B U']
  qformer_input_tokens: NotRequired[
    Int[jax.Array, 'B S'] | Int[jax.Array, 'G N S']
  ]
  encoder_image_starts: NotRequired[Int[jax.Array, 'B']]
  encoder_segment_ids: NotRequired[Int[jax.Array, 'B T']]
  encoder_positions: NotRequired[Int[jax.Array, 'B T']]
  decoder_segment_ids: NotRequired[Int[jax.Array, 'B U']]
  decoder_positions: NotRequired[Int[jax.Array, 'B U']]


_AXES = {
  'encoder_input_tokens': 2,
  'encoder_images': 5,
  'encoder_features': 4,
  'decoder_input_tokens': 2,
  'decoder_target_tokens': 2,
  'decoder_loss_weights': 2,
  'qformer_input_tokens': 2,
  'encoder_image_starts': 1,
  'encoder_segment_ids': 2,
  'decoder_segment_ids': 2,
}
_OF_GROUPS = ('encoder_images', 'encoder_features', 'qformer_input_tokens')


def check_batch(batch: Any, *needed: str) -> None:
  """Raises UserError unless a value from outside has the form of a Batch.

  needed: the arrays that must be there. Others may be, if they are right.
  """
  check_type('the batch', batch, Mapping, 'a dict of arrays')
  for name in needed:
    if name not in batch:
      raise UserError(f'the batch has no {name}: give a Batch (types.py).')
  rows = len(batch[needed[0]]) if np.ndim(batch[needed[0]]) else 0
  packed = 'encoder_image_starts' in batch
  for name, axes in _AXES.items():
    if name not in batch:
      continue
    array = batch[name]
    if packed and name == 'qformer_input_tokens':
      axes = 3
    kind, what = jnp.integer, 'whole numbers'
    if axes > 3:
      kind, what = jnp.number, 'numbers'
    shape, dtype = getattr(array, 'shape', None), getattr(array, 'dtype', None)
    if shape is None or dtype is None:
      raise UserError(f'{name} is a {type(array).__name__}: give an array.')
    if len(shape) != axes or not jnp.issubdtype(dtype, kind):
      raise UserError(
        f'{name} is {dtype}{list(shape)}: give {what} with {axes} axes.'
      )
    if packed and name in _OF_GROUPS:
      fits = shape[0] > 0 and rows % shape[0] == 0
    else:
      fits = shape[0] == rows
    if not fits:
      raise UserError(
        f'{name} has {shape[0]} rows and {needed[0]} {rows}: make them agree.'
      )


@runtime_checkable
class BatchSource(Protocol):
  """Gives this process's share of each batch, and can resume anywhere.

  iter() begins at the state and yields (batch, anything). A source may have
  attributes that say what was left out: see `skipped`, `truncated`,
  `cut_answers` and `first_truncated` of data.loader.Loader.
  """

  def __iter__(self) -> Iterator[tuple[Mapping[str, np.ndarray], Any]]: ...

  def get_state(self) -> Any:
    """The position after the last batch, as JSON's types."""
    ...

  def set_state(self, state: Any) -> None:
    """Goes to a position of `get_state`; the next iter() begins there."""
    ...
