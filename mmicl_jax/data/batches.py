"""Makes the rows of one process at a step.

If the loader has worker processes, this runs in them. Bad records are returned
as text to the loader, which counts them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mmicl_jax.context.turns import Example
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import (
  Features,
  FeatureSpec,
  Truncation,
  collate,
  empty,
  featurize,
)
from mmicl_jax.data.plans import StreamPlace
from mmicl_jax.data.records import as_example
from mmicl_jax.data.sources import Source
from mmicl_jax.errors import UserError
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer

Made = TypeVar('Made')


@dataclasses.dataclass(frozen=True)
class BatchInfo:
  """What is known of a batch besides its arrays.

  ids: of its examples; '' for a padding or skipped row. skipped: a sentence
  for each bad record. next_step: the step after this batch. place: of grouped
  examples, the place after this batch. examples: of all processes' rows; None
  if each row has one.
  """

  ids: tuple[str, ...]
  skipped: tuple[str, ...] = ()
  truncated: tuple[Truncation, ...] = ()
  next_step: int = 0
  place: StreamPlace | None = None
  examples: int | None = None


@dataclasses.dataclass(frozen=True)
class BatchMaker:
  """Makes the batch of a step: its rows for this process, and a BatchInfo.

  stream: position -> (source, record). size: the length of the stream, None if
  it has no end. offsets: which of the global_batch rows of a step are this
  process's. features_of: gives stored features instead of images.
  """

  sources: Sequence[Source]
  stream: Any
  size: int | None
  spec: FeatureSpec
  tokenizer: Tokenizer
  qformer_tokenizer: BertTokenizer | None
  global_batch: int
  offsets: range
  features_of: FeatureStore | None = None

  @property
  def num_records(self) -> int:
    """The number of records of all sources."""
    return sum(len(source.data) for source in self.sources)

  def __call__(self, step: int) -> tuple[Features, BatchInfo]:
    step = int(step)
    rows, ids, skipped, truncated = [], [], [], []
    for offset in self.offsets:
      position = step * self.global_batch + offset
      row, name = empty(self.spec, self.features_of), ''
      if self.size is None or position < self.size:
        try:
          row, name = self.made_by(featurize, position, truncated)
        except UserError as error:
          skipped.append(str(error))
          name = ''
      rows.append(row)
      ids.append(name)
    info = BatchInfo(tuple(ids), tuple(skipped), tuple(truncated), step + 1)
    return collate(rows), info

  def made_by(
    self,
    make: Callable[..., Made],
    position: int,
    truncated: list[Truncation],
  ) -> tuple[Made, str]:
    """Returns (what `featurize` or `read_pieces` makes of an example, its id).

    truncated: takes what was left out. Raises UserError as both do.
    """
    example, name = self.example_at(position)
    made = make(
      example,
      self.tokenizer,
      self.spec,
      qformer_tokenizer=self.qformer_tokenizer,
      on_truncation=truncated.append,
      features_of=self.features_of,
    )
    return made, name

  def example_at(self, position: int) -> tuple[Example, str]:
    """Returns (example, id); an example without a name is named by its id.

    Raises UserError if the record at this position of the stream is bad.
    """
    source, index = self.stream[position]
    part = self.sources[source]
    example, own = as_example(part.data[index], index)
    name = f'{part.name}:{own}'
    if not example.name:
      example = dataclasses.replace(example, name=name)
    return example, name


def mark_flags_parsed() -> None:
  """Marks absl's flags as parsed: Grain's workers read them without parsing."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
