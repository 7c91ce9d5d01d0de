"""Rows of one or several examples, whose images are packed by groups of rows.

A padded batch has room for max_images in each row. Here a group of rows shares
its image slots, and each row says which of them is its first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmicl_jax.data.features import Features, Pieces
from mmicl_jax.data.grouping import LengthBucket
from mmicl_jax.types import START


class ImageArray(NamedTuple):
  """The name of a batch's array of images, and the shape and dtype of one."""

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype


def pack_rows(
  rows: Sequence[Sequence[Pieces]],
  bucket: LengthBucket,
  rows_per_group: int,
  kind: ImageArray,
  *,
  segments: bool,
  qformer_length: int | None = None,
) -> Features:
  """Makes a Batch of whole groups of rows; a row holds several examples.

  With `segments` the batch also has the number of each token's example in its
  row, from 1 on, and its place in that example, under the names of seqio.
  """
  lengths = {'encoder': bucket.inputs_length, 'decoder': bucket.targets_length}
  own = ['segment_ids', 'positions'] if segments else []
  columns = {
    'encoder': ['input_tokens', *own],
    'decoder': ['input_tokens', 'target_tokens', 'loss_weights', *own],
  }
  batch: Features = {
    f'{side}_{name}': np.zeros((len(rows), lengths[side]), np.int32)
    for side, names in columns.items()
    for name in names
  }
  batch['encoder_image_starts'] = np.zeros(len(rows), np.int32)
  slots = (len(rows) // rows_per_group, bucket.slots)
  if bucket.slots:
    batch[kind.name] = np.zeros((*slots, *kind.shape), kind.dtype)
    if qformer_length is not None:
      words = np.zeros((*slots, qformer_length), np.int32)
      batch['qformer_input_tokens'] = words
  used = 0
  for i, row in enumerate(rows):
    if i % rows_per_group == 0:
      used = 0
    batch['encoder_image_starts'][i] = used
    _write_tokens(batch, i, row)
    for pieces in row:
      for image in pieces.images:
        place = i // rows_per_group, used
        batch[kind.name][place] = image
        if qformer_length is not None:
          words = batch['qformer_input_tokens'][place]
          words[: len(pieces.words)] = pieces.words
        used += 1
  return batch


def _write_tokens(batch: Features, i: int, row: Sequence[Pieces]) -> None:
  """Writes the tokens of row i, one example after the other."""
  at = {'encoder': 0, 'decoder': 0}
  for number, pieces in enumerate(row, 1):
    columns = {
      'encoder': {'input_tokens': pieces.inputs},
      'decoder': {
        'input_tokens': [START, *pieces.targets[:-1]],
        'target_tokens': pieces.targets,
        'loss_weights': [1] * len(pieces.targets),
      },
    }
    for side, values in columns.items():
      length = len(values['input_tokens'])
      values['segment_ids'] = [number] * length
      values['positions'] = list(range(length))
      for name, column in values.items():
        if (key := f'{side}_{name}') in batch:
          batch[key][i, at[side] : at[side] + length] = column
      at[side] += length
