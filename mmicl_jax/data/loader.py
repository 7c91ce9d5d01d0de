"""Records become batches by Grain: shuffled, mixed, sharded, resumable exactly.

The order of the examples depends only on the seed. Each step takes the next
global batch of them, so batches depend neither on the number of processes nor
on that of workers. The iterator's state is one number: the step. If examples
are grouped by length (grouping.py), it is a place: see plans.py.

`record_loader` reads files, `make_loader` any sources. The Loader goes through
the steps; batches.py or grouped.py makes the rows of a step.
"""

import dataclasses
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
  mark_flags_parsed,
)
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import (
  Features,
  FeatureSpec,
  check_vocabulary,
  feature_spec,
)
from mmicl_jax.data.grouped import GroupedMaker
from mmicl_jax.data.grouping import Grouping, make_grouping
from mmicl_jax.data.order import RecordOrder, mixed_order
from mmicl_jax.data.plans import StreamPlace
from mmicl_jax.data.sources import Source, open_sources
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.runtime import hosts
from mmicl_jax.runtime.parent import end_with_parent
from mmicl_jax.tokenizer import Tokenizer

_A_FEW, _MANY = 8, 100  # how many records `_judge` needs


def record_loader(
  data: str | Sequence[str],
  model: MMICLConfig,
  vocabulary: str,
  batch_size: int,
  *,
  weights: float | int | Sequence[float | int] | None = None,
  limit: int | Sequence[int] | None = None,
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
  buckets: Sequence[Any] | None = None,
  pack: bool = False,
  num_microbatches: int = 1,
  ablate: Sequence[str] = (),
) -> 'Loader':
  """Loads record files, mixed by `weights`, in the shapes of a model.

  batch_size: rows of all processes together. mesh: decides which of them this
  process reads: see hosts.batch_share. weights, limit, templates, ablate: see
  sources.open_sources.
  num_epochs: None repeats without end, in a new order each time if `shuffle`; a
  number is for evaluation, which is never shuffled. qformer_vocabulary: BERT's
  vocab.txt; without it the Q-Former reads no text, as in all published scripts.
  feature_cache: a folder of `mmicl data cache-features`, whose features are
  read instead of images. buckets, pack: group examples by length, and pack
  several into a row: see grouping.make_grouping; num_microbatches: then the
  images of each of these parts of a batch stay in it. Raises UserError for a
  missing file, a vocabulary that is not the model's, or impossible buckets.
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
  shards = count if mesh is None else partitioning.batch_shards(mesh)
  return make_loader(
    open_sources(
      data,
      data_dir,
      templates,
      seed,
      split='train' if num_epochs is None else 'val',
      weights=weights,
      limit=limit,
      ablate=ablate,
    ),
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
    grouping=make_grouping(
      buckets,
      pack,
      lengths=(inputs_length, targets_length),
      max_images=max_images,
      num_queries=model.qformer.num_queries,
      rows=batch_size,
      groups=shards * num_microbatches,
    ),
  )


def eval_loader(
  data: str | Sequence[str] | None,
  limit: int | Sequence[int] | None = None,
  make: Callable[..., 'Loader'] = record_loader,
) -> 'Loader | None':
  """A loader of one pass over held-out records, in order; None without data.

  limit: see sources.open_sources. make: `record_loader` with the settings that
  gin bound for the training data.
  """
  if data is None:
    return None
  return make(data=data, limit=limit, num_epochs=1)


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
  grouping: Grouping | None = None,
) -> 'Loader':
  """Makes a loader that gives `batch_size` rows in each process and step.

  num_epochs: None (training) repeats without end, each source in a new order
  each time, and mixes the sources by weight. A number (evaluation) gives every
  record that often, and fills the last batch with rows without loss weight, so
  that all processes see the same number of batches. The rows of a step are
  those of process 0, then those of process 1, and so on.

  skip_bad_records: leaves the row of a bad record empty and counts it; without
  it a bad record raises UserError, naming file and line, when its turn comes.
  workers: how many processes decode; above 0, call this under
  `if __name__ == '__main__'`. features_of: gives stored features instead of
  images. grouping: how examples become batches; None takes `batch_size` of them
  in their order. Raises UserError for settings that cannot work.
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
  weights = [source.rate for source in sources]
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
  if len(sources) > 1:  # Former versions rounded the rates.
    fingerprint['rates'] = 'exact'
  if grouping is not None:
    # Through JSON, which turns tuples into lists.
    fingerprint['groups'] = json.loads(json.dumps(dataclasses.asdict(grouping)))
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
  return Loader(
    make, grouping, order_seed, fingerprint, workers, skip_bad_records
  )


class Loader:
  """Iterates over (batch, info); made by `make_loader`.

  num_steps: None if the stream has no end, or if grouping decides it.

  Each iter() begins at the present state; use one iterator at a time. After
  each batch `get_state()` is the position after that batch. Three counts say
  what this process has lost since the run began: `skipped` records were left
  out, `truncated` examples were shortened, and the answers of `cut_answers` of
  these lost tokens. `first_truncated` is a sentence on the first shortened
  example since this process began, or ''.
  """

  def __init__(
    self,
    make: BatchMaker,
    grouping: Grouping | None,
    order_seed: int | None,
    fingerprint: dict[str, Any],
    workers: int,
    skip_bad_records: bool,
  ):
    self.num_steps = None
    if grouping is None and make.size is not None:
      self.num_steps = math.ceil(make.size / make.global_batch)
    self.step = self.skipped = self.truncated = self.cut_answers = 0
    self.first_truncated = ''
    self._make, self._grouping, self._order_seed = make, grouping, order_seed
    self._place, self._seen = StreamPlace(), 0
    self._fingerprint = fingerprint
    self._workers = workers
    self._skip_bad_records = skip_bad_records

  def __iter__(self) -> Iterator[tuple[Features, BatchInfo]]:
    stop = sys.maxsize if self.num_steps is None else self.num_steps
    if self.step >= stop:
      return
    make: Any = self._make
    if self._grouping is not None:
      make = GroupedMaker(
        make, self._grouping, self._order_seed, self.step, self._place
      )
    steps = grain.MapDataset.range(self.step, stop)
    # Threads would gain nothing. JAX does not wait for the device, so the next
    # batch is made while it computes; workers make batches ahead anyway.
    in_line = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    batches = steps.map(make).to_iter_dataset(in_line)
    if self._workers:
      mark_flags_parsed()
      batches = batches.mp_prefetch(
        grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=1),
        worker_init_fn=end_with_parent,
      )
    iterator = iter(batches)
    try:
      for batch, info in iterator:
        if not batch:  # only their maker knows where grouped examples end
          return
        self._count(info)
        if self._workers:
          # Arrays from workers are memory that ends with them.
          batch = {key: np.array(value) for key, value in batch.items()}
        yield batch, info
    finally:
      iterator.close()

  def get_state(self) -> dict[str, Any]:
    """The position in the stream and the counts, as JSON's types."""
    counts = {
      'skipped': self.skipped,
      'truncated': self.truncated,
      'cut_answers': self.cut_answers,
    }
    if self._grouping is not None:
      counts |= {'seen': self._seen, 'place': self._place.to_json()}
    return {'step': self.step, **counts, 'stream': self._fingerprint}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to a state of `get_state`; the next iter() begins there.

    Raises UserError if the state is that of another stream: other data, seed,
    order or global batch size.
    """
    # The saved state went through JSON, where tuples become lists.
    theirs, ours = (
      state.get('stream'),
      json.loads(json.dumps(self._fingerprint)),
    )
    if theirs != ours:
      theirs = theirs if isinstance(theirs, dict) else {}
      changed = [
        f'{name} was {json.dumps(theirs.get(name))} and is {json.dumps(value)}'
        for name in dict.fromkeys([*ours, *theirs])
        if theirs.get(name) != (value := ours.get(name))
      ]
      raise UserError(
        'the saved place in the data belongs to another stream '
        f'({"; ".join(changed)}): give what the run began with, or begin a new '
        'one in another MODEL_DIR, with this one as INIT_FROM.'
      )
    self.seek(state['step'])
    if self._grouping is not None:
      self._seen = state['seen']
      self._place = StreamPlace.from_json(state['place'])
    self.skipped, self.truncated = state['skipped'], state['truncated']
    # Checkpoints of former versions lack it.
    self.cut_answers = state.get('cut_answers', 0)

  @property
  def shapes(self) -> str:
    """What a run prints of its batches' shapes; '' if there is only one."""
    return '' if self._grouping is None else self._grouping.describe()

  def seek(self, step: int) -> None:
    """Goes past the first `step` batches, for a run that T5X began."""
    self.step, self._seen = step, step * len(self._make.offsets)

  def _count(self, info: BatchInfo) -> None:
    if info.skipped and not self._skip_bad_records:
      raise UserError(info.skipped[0])
    self.step = info.next_step
    self._place = info.place or self._place
    self._seen += len(info.ids)
    self.skipped += len(info.skipped)
    self.truncated += len(info.truncated)
    self.cut_answers += sum(t.target_tokens > 0 for t in info.truncated)
    if info.truncated and not self.first_truncated:
      self.first_truncated = str(info.truncated[0])
    self._judge(info)

  def _judge(self, info: BatchInfo) -> None:
    """Raises UserError if too many records are bad.

    They are if all of the first _A_FEW were, or more than half of at least
    _MANY; for less data, one pass over it is enough to judge.
    """
    make, seen = self._make, self._seen
    one_pass = make.num_records * len(make.offsets) / make.global_batch
    none = self.skipped == seen >= min(_A_FEW, one_pass)
    most = seen / 2 < self.skipped and seen >= min(_MANY, one_pass)
    if none or most:
      last = f' (the last: {info.skipped[-1]})' if info.skipped else ''
      raise UserError(
        f'{self.skipped} of {seen} records are bad{last}: check the data '
        'before skipping so many'
      )
