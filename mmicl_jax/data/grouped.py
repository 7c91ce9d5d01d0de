"""Makes the batches of grouped examples: this process's rows of each.

Every process, and every worker of it, reads the texts of all records to come to
the same plan, but opens only the images of its own rows.
"""

import numpy as np

from mmicl_jax.data.batches import BatchInfo, BatchMaker
from mmicl_jax.data.features import Features, Pieces, read_pieces
from mmicl_jax.data.fitting import fit
from mmicl_jax.data.grouping import Grouping, RowSize
from mmicl_jax.data.packed import ImageArray, pack_rows
from mmicl_jax.data.plans import Plans, StreamPlace
from mmicl_jax.errors import UserError


class GroupedMaker:
  """step -> (batch, BatchInfo); the batch is empty after the end.

  base: reads the records. seed: of the order of batches; None keeps them by
  bucket. step, place: where the stream begins; see Plans.
  """

  def __init__(
    self,
    base: BatchMaker,
    grouping: Grouping,
    seed: int | None,
    step: int = 0,
    place: StreamPlace | None = None,
  ):
    self._base, self._grouping = base, grouping
    self._plans = Plans(grouping, self._size_of, base.size, seed, step, place)

  def __call__(self, step: int) -> tuple[Features, BatchInfo]:
    step = int(step)
    found = self._plans(step)
    if found is None:
      return {}, BatchInfo(())
    planned, place = found
    skipped, truncated, ids, rows = [], [], [], []
    base = self._base
    for offset in base.offsets:
      row: list[Pieces] = []
      for position in planned.rows[offset]:
        try:
          pieces, name = base.made_by(read_pieces, position, truncated)
        except UserError as error:
          skipped.append(str(error))
          ids.append('')
        else:
          row.append(pieces)
          ids.append(name)
      rows.append(row)
    grouping = self._grouping
    batch = pack_rows(
      rows,
      planned.bucket,
      grouping.rows // grouping.groups,
      self._image_array(),
      segments=grouping.pack,
      qformer_length=base.spec.qformer_length,
    )
    info = BatchInfo(
      tuple(ids),
      tuple(skipped),
      tuple(truncated),
      step + 1,
      place,
      sum(map(len, planned.rows)),
    )
    return batch, info

  def _size_of(self, position: int) -> RowSize:
    """What an example takes; nothing if its record is bad.

    Such a record keeps its place, and whoever has it reports it.
    """
    base = self._base
    try:
      example, _ = base.example_at(position)
      fitted = fit(example, base.tokenizer, base.spec)
    except UserError:
      return RowSize(position, 0, 0, 0)
    lengths = len(fitted.inputs), len(fitted.targets)
    return RowSize(position, *lengths, len(fitted.example.images))

  def _image_array(self) -> ImageArray:
    size, store = self._base.spec.image_size, self._base.features_of
    if store is None:
      shape = (size, size, 3)
      return ImageArray('encoder_images', shape, np.dtype(np.uint8))
    return ImageArray('encoder_features', store.shape, np.dtype(store.dtype))
