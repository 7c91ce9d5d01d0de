"""Records -> batches with Grain: shuffled, mixed, sharded, exactly resumable.

The stream of examples is a function of the seed alone. Step s of a run is the
stream's next B rows per process, so its batches do not depend on the number of
processes (for one global batch) nor of workers, and the place in the stream is
one number: the state of the iterator.

From top to bottom: `record_loader` reads files, `make_loader` any sources; the
Loader steps through the stream; batches.py makes the rows of a step.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from jax.sharding import Mesh

from mmicl_jax.data.batches import (
  BatchInfo,
  BatchMaker,
  end_with_parent,
  mark_flags_parsed,
)
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import (
  Features,
  FeatureSpec,
  check_vocabulary,
  feature_spec,
)
from mmicl_jax.data.order import RecordOrder, mixed_order
from mmicl_jax.data.sources import Source, open_sources
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.runtime import hosts
from mmicl_jax.tokenizer import Tokenizer

_A_FEW, _MANY = 8, 100  # records to judge by


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
  make = BatchMaker(
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
  return Loader(make, num_steps, fingerprint, workers, skip_bad_records)


class Loader:
  """Iterates over (batch, info); made by `make_loader`.

  Each call of iter() starts where the state is; one iterator at a time. After
  each batch `get_state()` is the place behind that batch, and these say what
  this process has lost since the run began: `skipped`, the number of records
  left out; `truncated`, of examples shortened; `cut_answers`, of those among
  them whose answers lost tokens. `first_truncated` tells of the first example
  that was shortened since this process began, '' if none was.
  """

  def __init__(
    self,
    make: BatchMaker,
    num_steps: int | None,
    fingerprint: dict[str, Any],
    workers: int,
    skip_bad_records: bool,
  ):
    self.num_steps = num_steps
    self.step = self.skipped = self.truncated = self.cut_answers = 0
    self.first_truncated = ''
    self._make = make
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
    batches = steps.map(self._make).to_iter_dataset(in_line)
    if self._workers:
      mark_flags_parsed()
      batches = batches.mp_prefetch(
        grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=1),
        worker_init_fn=end_with_parent,
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
    counts = {
      'skipped': self.skipped,
      'truncated': self.truncated,
      'cut_answers': self.cut_answers,
    }
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
    # Absent in checkpoints of former versions.
    self.cut_answers = state.get('cut_answers', 0)

  def seek(self, step: int) -> None:
    """Goes behind the first `step` batches, for a run begun by T5X."""
    self.step = step

  def _count(self, info: BatchInfo) -> None:
    if info.skipped and not self._skip_bad_records:
      raise UserError(info.skipped[0])
    self.step = info.next_step
    self.skipped += len(info.skipped)
    self.truncated += len(info.truncated)
    self.cut_answers += sum(t.target_tokens > 0 for t in info.truncated)
    if info.truncated and not self.first_truncated:
      self.first_truncated = str(info.truncated[0])
    self._judge(info)

  def _judge(self, info: BatchInfo) -> None:
    """Raises UserError where too little is left to train on.

    That is where no record was sound so far, among a few, or where most were
    bad, among many; few and many are at most one pass over the data.
    """
    rows, seen = len(info.ids), self.step * len(info.ids)
    one_pass = self._make.num_records * rows / self._make.global_batch
    none = self.skipped == seen >= min(_A_FEW, one_pass)
    most = seen / 2 < self.skipped and seen >= min(_MANY, one_pass)
    if none or most:
      last = f' (the last: {info.skipped[-1]})' if info.skipped else ''
      raise UserError(
        f'{self.skipped} of {seen} records are bad{last}: check the data '
        'before skipping so many'
      )
