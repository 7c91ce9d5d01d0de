"""The batches of one process: from a step to its rows.

This runs in the loader's worker processes, if it has any; errors travel as text
to the loader, where they are counted.
"""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any

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
from mmicl_jax.data.records import as_example
from mmicl_jax.data.sources import Source
from mmicl_jax.errors import UserError
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class BatchInfo:
  """What the model need not know. A padding or skipped row has the id ''."""

  ids: tuple[str, ...]
  skipped: tuple[str, ...] = ()
  truncated: tuple[Truncation, ...] = ()
  next_step: int = 0


@dataclasses.dataclass(frozen=True)
class BatchMaker:
  """Step -> the rows of one process at that step, and what went wrong.

  stream: place -> (source, record); size: of the stream, None without end.
  offsets: the places of this process among the global_batch rows of a step.
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
    return sum(len(source.data) for source in self.sources)

  def __call__(self, step: int) -> tuple[Features, BatchInfo]:
    step = int(step)
    rows, ids, skipped, truncated = [], [], [], []
    for offset in self.offsets:
      position = step * self.global_batch + offset
      row, name = empty(self.spec, self.features_of), ''
      if self.size is None or position < self.size:
        source, index = self.stream[position]
        try:
          example, name = self._example(source, index)
          row = featurize(
            example,
            self.tokenizer,
            self.spec,
            qformer_tokenizer=self.qformer_tokenizer,
            on_truncation=truncated.append,
            features_of=self.features_of,
          )
        except UserError as error:
          skipped.append(str(error))
          name = ''
      rows.append(row)
      ids.append(name)
    info = BatchInfo(tuple(ids), tuple(skipped), tuple(truncated), step + 1)
    return collate(rows), info

  def _example(self, source: int, index: int) -> tuple[Example, str]:
    """The example and its id, which also names examples without a name."""
    part = self.sources[source]
    example, own = as_example(part.data[index], index)
    name = f'{part.name}:{own}'
    if not example.name:
      example = dataclasses.replace(example, name=name)
    return example, name


def end_with_parent(index: int, count: int) -> None:
  """A worker whose parent was killed would wait for it for ever."""
  del index, count
  parent = multiprocessing.parent_process()

  def watch() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def mark_flags_parsed() -> None:
  """Grain's workers read absl flags, which only absl's main() would parse."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
