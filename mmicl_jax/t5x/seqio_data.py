"""MIC records as SeqIO tasks: T5X gets the features of the Grain loader.

A task numbers its examples; preprocessors.py reads them and makes features, and
converters.py makes batches. `add` declares a task over any examples.
`mic_records` declares one over record files; gin files call it.
"""

import functools
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
  eval_data: str | Sequence[str] | None = None,
  data_dir: str | None = None,
  templates: str | None = None,
  seed: int = 0,
  inputs_length: int = 512,
  targets_length: int = 128,
  max_images: int = 12,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
) -> str:
  """Declares a task over record files and returns its name.

  data, eval_data: the files of the splits 'train' and 'validation'. The other
  arguments, and the errors, are those of data.loader.record_loader.
  """
  check_vocabulary(Tokenizer(vocabulary), model, vocabulary)
  files = {'train': data, 'validation': eval_data}
  splits = {
    split: _chained(open_sources(paths, data_dir, templates, seed, split=built))
    for (split, paths), built in zip(
      files.items(), ('train', 'val'), strict=True
    )
    if paths is not None
  }
  spec = feature_spec(
    model,
    inputs_length,
    targets_length,
    max_images,
    qformer_length if qformer_vocabulary else None,
  )
  add(name, splits, vocabulary, spec, qformer_vocabulary=qformer_vocabulary)
  return name


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
