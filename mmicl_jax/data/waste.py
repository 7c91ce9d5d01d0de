"""How much of a loader's batches is padding, by the loader's own plan."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from mmicl_jax.data.fitting import FeatureSpec, fit
from mmicl_jax.data.grouping import Grouping, RowSize
from mmicl_jax.data.order import RecordOrder
from mmicl_jax.data.plans import Plans
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Waste:
  """The shares of padding in the first epoch of batches.

  inputs, targets: of the places for tokens of prompts and answers. images: of
  the image slots. examples_per_row: on average.
  """

  inputs: float
  targets: float
  images: float
  examples_per_row: float


def measured(
  records: Iterable[Record],
  tokenizer: Tokenizer,
  spec: FeatureSpec,
  sizes: list[RowSize],
) -> Iterator[Record]:
  """Yields records as they come, and adds what each takes to `sizes`.

  Those that the loader would refuse are left out.
  """
  for record in records:
    with contextlib.suppress(UserError):
      fitted = fit(record.example, tokenizer, spec)
      inputs, targets = len(fitted.inputs), len(fitted.targets)
      images = len(fitted.example.images)
      sizes.append(RowSize(len(sizes), inputs, targets, images))
    yield record


def padding_waste(
  sizes: Sequence[RowSize], grouping: Grouping, seed: int = 0
) -> Waste:
  """What batches of these examples waste, in training's endless stream.

  sizes: of all records; at least one. They are shuffled as `mmicl train` does.
  """
  order = RecordOrder([len(sizes)], 0, seed)

  def size_of(position: int) -> RowSize:
    return sizes[order[position][1]]._replace(position=position)

  plans = Plans(grouping, size_of, None, seed)
  used = [0, 0, 0]
  room = [0, 0, 0]
  examples = rows = step = 0
  while examples < len(sizes):
    found = plans(step)
    assert found is not None, 'the stream has no end'
    bucket, planned = found[0]
    for row in planned:
      for position in row:
        for i, number in enumerate(size_of(position)[1:]):
          used[i] += number
      examples += len(row)
    rows, step = rows + len(planned), step + 1
    room[0] += len(planned) * bucket.inputs_length
    room[1] += len(planned) * bucket.targets_length
    room[2] += grouping.groups * bucket.slots
  inputs, targets, images = (
    1 - u / r if r else 0.0 for u, r in zip(used, room, strict=True)
  )
  return Waste(inputs, targets, images, examples / rows)
