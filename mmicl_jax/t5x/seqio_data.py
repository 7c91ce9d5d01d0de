"""MIC records as SeqIO tasks: T5X gets the features of the Grain loader.

A task numbers its examples; preprocessors.py reads them and makes features, and
converters.py makes batches. `add` declares a task over any examples.
`mic_records` declares one over record files, or a mixture; gin files call it.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from mmicl_jax.data.features import (
  FeatureSpec,
  check_vocabulary,
  feature_spec,
)
from mmicl_jax.data.opened import Chained
from mmicl_jax.data.sources import Source, open_sources
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.t5x.mixture import ExactMixture
from mmicl_jax.t5x.preprocessors import read_examples, to_features
from mmicl_jax.t5x.vocabulary import Vocabulary
from mmicl_jax.tokenizer import Tokenizer

NAME = 'mic_records'


def exact_match(
  targets: Sequence[str], predictions: Sequence[str]
) -> dict[str, float]:
  """The percentage of right answers, ignoring case and spaces at the ends."""
  hits = [
    target.strip().lower() == answer.strip().lower()
    for target, answer in zip(targets, predictions, strict=True)
  ]
  return {'exact_match': 100 * sum(hits) / max(len(hits), 1)}


def add(
  name: str,
  splits: Mapping[str, Sequence[Any]],
  vocabulary: str | Callable[[], Tokenizer],
  spec: FeatureSpec,
  *,
  qformer_vocabulary: str | None = None,
  metric_fns: Sequence[Any] = (exact_match,),
) -> seqio.Task:
  """Declares a task over one sequence of Examples or Records for each split.

  vocabulary: see Vocabulary. spec: the lengths to use if SeqIO is given none.
  A task of the same name is replaced. The dataset keeps `inputs_pretokenized`
  and `targets_pretokenized`, which T5X prints, as texts; pixels never have such
  a name.
  """
  words = Vocabulary(vocabulary)
  bert = BertTokenizer(qformer_vocabulary) if qformer_vocabulary else None
  features = {
    'inputs': seqio.Feature(words, add_eos=True),
    'targets': seqio.Feature(words, add_eos=True),
    'images': seqio.ContinuousFeature(dtype=tf.uint8, rank=4),
  }
  if bert is not None:
    size = seqio.PassThroughVocabulary(bert.vocab_size)
    features['qformer_inputs'] = seqio.Feature(size, add_eos=False)
  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  sizes = {split: len(examples) for split, examples in splits.items()}
  source: Any = seqio.FunctionDataSource(
    functools.partial(_indices, sizes),
    splits=list(splits),
    num_input_examples=sizes,
  )
  return seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      functools.partial(
        read_examples, splits=splits, image_size=spec.image_size
      ),
      seqio.CacheDatasetPlaceholder(),
      functools.partial(to_features, vocabulary=words, spec=spec, bert=bert),
    ],
    output_features=features,
    metric_fns=list(metric_fns),
  )


def mic_records(
  data: str | Sequence[str] | None,
  model: MMICLConfig,
  vocabulary: str,
  *,
  name: str = NAME,
  weights: float | int | Sequence[float | int] | None = None,
  eval_data: str | Sequence[str] | None = None,
  eval_limit: int | Sequence[int] | None = None,
  data_dir: str | None = None,
  templates: str | None = None,
  seed: int = 0,
  inputs_length: int = 512,
  targets_length: int = 128,
  max_images: int = 12,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
  ablate: Sequence[str] = (),
) -> str:
  """Declares a task, or a mixture of several, over records; returns its name.

  data, eval_data: what the splits 'train' and 'validation' are read from. If
  `data` has several names, each becomes a task `<name>_<what it is called>`,
  and so does each name of `eval_data`, unless it is called as one of `data`;
  the mixture of all has the rates `weights`. eval_limit: the limit of
  `eval_data`. The other arguments, and the errors, are those of
  data.loader.record_loader.
  """
  check_vocabulary(Tokenizer(vocabulary), model, vocabulary)
  rest = (data_dir, templates, seed)
  train = held_out = []
  if data is not None:
    train = open_sources(data, *rest, weights=weights, ablate=ablate)
  if eval_data is not None:
    held_out = open_sources(eval_data, *rest, split='val', limit=eval_limit)
  spec = feature_spec(
    model,
    inputs_length,
    targets_length,
    max_images,
    qformer_length if qformer_vocabulary else None,
  )
  declare = functools.partial(
    add, vocabulary=vocabulary, spec=spec, qformer_vocabulary=qformer_vocabulary
  )
  if name in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.remove(name)
  if len(train) < 2:
    sources = {'train': train, 'validation': held_out}
    declare(name, {k: _chained(v) for k, v in sources.items() if v})
    return name
  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  tasks = _named(name, train, held_out)
  for task, splits in tasks.items():
    declare(task, {split: source.data for split, source in splits.items()})
  rates = [
    (task, splits['train'].rate if 'train' in splits else 1)
    for task, splits in tasks.items()
  ]
  seqio.MixtureRegistry.add(name, rates, mixture_cls=ExactMixture)
  return name


def _named(
  name: str, train: Sequence[Source], held_out: Sequence[Source]
) -> dict[str, dict[str, Source]]:
  """Tasks with their splits; in each split a name of data has its own task."""
  found: dict[str, dict[str, Source]] = {}
  for split, sources in (('train', train), ('validation', held_out)):
    for source in sources:
      task = first = f'{name}_{re.sub(r"[^A-Za-z0-9_]+", "_", source.name)}'
      number = 1
      while split in found.get(task, {}):
        number += 1
        task = f'{first}_{number}'
      found.setdefault(task, {})[split] = source
  return found


def _chained(sources: Sequence[Source]) -> Chained:
  """Several sources, one after the other."""
  name = ', '.join(source.name for source in sources)
  return Chained(name, tuple(source.data for source in sources))


def feature_lengths(
  inputs_length: int,
  targets_length: int,
  max_images: int,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
) -> dict[str, int]:
  """The lengths of a task's features as SeqIO's task_feature_lengths."""
  found = {
    'inputs': inputs_length,
    'targets': targets_length,
    'images': max_images,
  }
  if qformer_vocabulary is not None:
    found['qformer_inputs'] = qformer_length
  return found


def _indices(
  sizes: Mapping[str, int],
  split: str,
  shuffle_files: bool,
  seed: int | None = None,
) -> tf.data.Dataset:
  """The numbers of a split's examples, which SeqIO shards before reading."""
  dataset = tf.data.Dataset.range(sizes[split])
  if shuffle_files:
    dataset = dataset.shuffle(sizes[split], seed=seed)
  return dataset.map(lambda index: {'split': split, 'index': index})
