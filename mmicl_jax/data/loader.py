"""Records -> batches with Grain: shuffled, mixed, sharded, exactly resumable.

The stream of examples is a function of the seed alone. Step s of a run is the
stream's next B rows per process, so its batches do not depend on the number of
processes (for one global batch) nor of workers, and the place in the stream is
one number: the state of the iterator.

From top to bottom: `record_loader` reads files, `make_loader` any sources; the
Loader steps through the stream; `_Rows` makes the rows of a step.
"""

import dataclasses
import json
import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from jax.sharding import Mesh

from mmicl_jax.context.turns import Example
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import (
  Features,
  FeatureSpec,
  Truncation,
  check_vocabulary,
  collate,
  empty,
  feature_spec,
  featurize,
)
from mmicl_jax.data.order import RecordOrder, mixed_order
from mmicl_jax.data.records import as_example
from mmicl_jax.data.sources import Source, open_sources
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.runtime import hosts
from mmicl_jax.tokenizer import Tokenizer

_ENOUGH_TO_JUDGE = 100


def record_loader(
  data: str | Sequence[str],
  model: MMICLConfig,
  vocabulary: str,
  batch_size: int,
  *,
  data_dir: str | None = None,
  templates: str | None = None,
  inputs_length: int = 512,
  targets_length: int = 128,
  max_images: int = 12,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
  seed: int = 0,
  shuffle: bool = True,
  num_epochs: int | None = None,
  workers: int = 0,
  skip_bad_records: bool = False,
  mesh: Mesh | None = None,
  feature_cache: str | None = None,
) -> 'Loader':
  """A loader of record files, mixed by their sizes, in the shapes of a model.

  batch_size: rows over all processes. mesh: says which of them this process
  reads, see hosts.batch_share. templates: see sources.open_sources.
  num_epochs: None repeats for ever, if `shuffle` in a new order each time; a
  number is for evaluation, which is never shuffled. qformer_vocabulary: BERT's
  vocab.txt; without it the Q-Former reads no text, as in all published scripts.
  feature_cache: a folder of `mmicl data cache-features` whose features take the
  images' place. Raises UserError for a missing file or a vocabulary that is not
  the model's.
  """
  if feature_cache is not None and qformer_vocabulary is not None:
    raise UserError(
      'FEATURE_CACHE holds what the Q-Former sees without text: unset it or '
      'QFORMER_VOCABULARY'
    )
  tokenizer = Tokenizer(vocabulary)
  check_vocabulary(tokenizer, model, vocabulary)
  bert = (
    None if qformer_vocabulary is None else BertTokenizer(qformer_vocabulary)
  )
  index, count = hosts.batch_share(mesh)
  return make_loader(
    open_sources(data, data_dir, templates, seed),
    feature_spec(
      model,
      inputs_length,
      targets_length,
      max_images,
      None if bert is None else qformer_length,
    ),
    tokenizer,
    batch_size // count,
    seed=seed,
    shuffle=shuffle and num_epochs is None,
    num_epochs=num_epochs,
    process_index=index,
    process_count=count,
    workers=workers,
    skip_bad_records=skip_bad_records,
    qformer_tokenizer=bert,
    features_of=None if feature_cache is None else FeatureStore(feature_cache),
  )


def eval_loader(
  data: str | Sequence[str] | None,
  make: Callable[..., 'Loader'] = record_loader,
) -> 'Loader | None':
  """One pass over held-out records in their order; None without data.

  make: `record_loader`, with what gin bound for the training data.
  """
  return None if data is None else make(data=data, num_epochs=1)


def make_loader(
  sources: Source | Sequence[Source],
  spec: FeatureSpec,
  tokenizer: Tokenizer,
  batch_size: int,
  *,
  seed: int = 0,
  shuffle: bool = True,
  num_epochs: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
  skip_bad_records: bool = False,
  qformer_tokenizer: BertTokenizer | None = None,
  features_of: FeatureStore | None = None,
) -> 'Loader':
  """A loader of `batch_size` rows per process and step.

  num_epochs=None (training) repeats for ever, each source in a new order each
  time, and mixes them by weight. A number (evaluation) gives every record that
  often; the last batch is filled with rows of zero loss weight, so that all
  processes see the same number of batches. Rows of one step: those of process
  0, then 1, ...

  A bad record raises UserError, naming file and line, when its turn comes; with
  `skip_bad_records` its row is left empty and counted. `workers` > 0 decodes in
  so many processes: call it under `if __name__ == '__main__'`. `features_of`:
  gives features in the place of images.
  """
  sources = [sources] if isinstance(sources, Source) else list(sources)
  if empty_one := [source.name for source in sources if not len(source.data)]:
    raise UserError(f'{empty_one[0]}: no records; correct the path or drop it.')
  if not sources or batch_size < 1:
    raise UserError('the loader needs a source and a batch size of at least 1.')
  if workers < 0:
    raise UserError(f'WORKERS is {workers}: give 0 or the number of processes.')
  if not 0 <= process_index < process_count:
    raise ValueError(f'process {process_index} of {process_count}')
  if spec.qformer_length is not None and qformer_tokenizer is None:
    raise UserError(
      "qformer_length is set, but the Q-Former's text has no BERT vocabulary; "
      'name it or unset qformer_length.'
    )
  weights = [
    float(len(s.data) if s.weight is None else s.weight) for s in sources
  ]
  if any(weight <= 0 for weight in weights):
    raise UserError(f'weights {weights} must be above 0; drop the source.')
  global_batch = batch_size * process_count
  sizes = [len(s.data) for s in sources]
  order_seed = seed if shuffle else None
  if num_epochs is None:
    size, stream = None, mixed_order(sizes, weights, order_seed)
  else:
    size, stream = sum(sizes) * num_epochs, RecordOrder(sizes, 0, order_seed)
  fingerprint = {
    'sources': [[s.name, len(s.data)] for s in sources],
    'weights': weights if num_epochs is None else None,
    'seed': seed,
    'shuffle': shuffle,
    'num_epochs': num_epochs,
    'global batch size': global_batch,
  }
  rows = _Rows(
    sources,
    stream,
    size,
    spec,
    tokenizer,
    qformer_tokenizer,
    global_batch,
    range(process_index * batch_size, (process_index + 1) * batch_size),
    features_of,
  )
  num_steps = None if size is None else math.ceil(size / global_batch)
  return Loader(rows, num_steps, fingerprint, workers, skip_bad_records)


@dataclasses.dataclass(frozen=True)
class BatchInfo:
  """What the model need not know. A padding or skipped row has the id ''."""

  ids: tuple[str, ...]
  skipped: tuple[str, ...] = ()
  truncated: tuple[Truncation, ...] = ()
  next_step: int = 0


class Loader:
  """Iterates over (batch, info); made by `make_loader`.

  Each call of iter() starts where the state is; one iterator at a time. After
  each batch `skipped` and `truncated` are the numbers of records left out and
  of examples shortened so far, and `get_state()` is the place behind that
  batch.
  """

  def __init__(
    self,
    rows: '_Rows',
    num_steps: int | None,
    fingerprint: dict[str, Any],
    workers: int,
    skip_bad_records: bool,
  ):
    self.num_steps = num_steps
    self.step = self.skipped = self.truncated = 0
    self._rows = rows
    self._fingerprint = fingerprint
    self._workers = workers
    self._skip_bad_records = skip_bad_records

  def __iter__(self) -> Iterator[tuple[Features, BatchInfo]]:
    stop = sys.maxsize if self.num_steps is None else self.num_steps
    if self.step >= stop:
      return
    steps = grain.MapDataset.range(self.step, stop)
    # No threads: without workers the device computes while the next batch is
    # made, for JAX does not wait; with workers those are ahead already.
    in_line = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    batches = steps.map(self._rows).to_iter_dataset(in_line)
    if self._workers:
      _parse_flags()
      batches = batches.mp_prefetch(
        grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=1),
        worker_init_fn=_end_with_parent,
      )
    iterator = iter(batches)
    try:
      for batch, info in iterator:
        self._count(info)
        # Copies, for workers hand over shared memory, which ends with them.
        yield {key: np.array(value) for key, value in batch.items()}, info
    finally:
      iterator.close()

  def get_state(self) -> dict[str, Any]:
    """The place in the stream and the counts, as plain JSON values."""
    counts = {'skipped': self.skipped, 'truncated': self.truncated}
    return {'step': self.step, **counts, 'stream': self._fingerprint}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to a place that `get_state` gave; the next iter() starts there.

    Raises UserError if the state is that of another stream: other data, seed,
    order or global batch size.
    """
    # Through JSON, where tuples become lists.
    theirs, ours = (
      state.get('stream'),
      json.loads(json.dumps(self._fingerprint)),
    )
    if theirs != ours:
      theirs = theirs if isinstance(theirs, dict) else {}
      changed = [
        f'{name} was {json.dumps(theirs.get(name))} and is {json.dumps(value)}'
        for name, value in ours.items()
        if theirs.get(name) != value
      ]
      raise UserError(
        'the saved place in the data belongs to another stream '
        f'({"; ".join(changed)}): give what the run began with, or begin a new '
        'one in another MODEL_DIR, with this one as INIT_FROM.'
      )
    self.step = state['step']
    self.skipped, self.truncated = state['skipped'], state['truncated']

  def seek(self, step: int) -> None:
    """Goes behind the first `step` batches, for a run begun by T5X."""
    self.step = step

  def _count(self, info: BatchInfo) -> None:
    if info.skipped and not self._skip_bad_records:
      raise UserError(info.skipped[0])
    self.step = info.next_step
    self.skipped += len(info.skipped)
    self.truncated += len(info.truncated)
    seen = self.step * len(info.ids)
    if seen >= _ENOUGH_TO_JUDGE and self.skipped > seen / 2:
      raise UserError(
        f'{self.skipped} of {seen} records are bad, the last: '
        f'{(info.skipped or ("",))[-1]} Check the data before skipping so many.'
      )


@dataclasses.dataclass(frozen=True)
class _Rows:
  """Step -> the rows of one process at that step, and what went wrong.

  Runs in worker processes, so errors travel as text to where they are counted.
  """

  sources: Sequence[Source]
  stream: Any  # place -> (source, record)
  size: int | None
  spec: FeatureSpec
  tokenizer: Tokenizer
  qformer_tokenizer: BertTokenizer | None
  global_batch: int
  offsets: range
  features_of: FeatureStore | None = None

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


def _end_with_parent(index: int, count: int) -> None:
  """A worker whose parent was killed would wait for it for ever."""
  del index, count
  parent = multiprocessing.parent_process()

  def watch() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def _parse_flags() -> None:
  """Grain's workers read absl flags, which only absl's main() would parse."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
