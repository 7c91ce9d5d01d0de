"""MIC records as SeqIO tasks: the features of the Grain loader, for T5X.

    FunctionDataSource (split, index) -> `read`: texts and small PNG images
      -> cache, if wanted -> `to_features`: what data.features.featurize gives
      -> FeatureConverter: a Batch

`add` declares a task over any examples; `mic_records` declares one over record
files and is what gin files call.
"""

import functools
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from PIL import Image

from mmicl_jax.context.turns import Example, Turn
from mmicl_jax.data.features import (
  FeatureSpec,
  check_vocabulary,
  feature_spec,
  featurize,
)
from mmicl_jax.data.images import load_image, to_png
from mmicl_jax.data.records import as_example
from mmicl_jax.data.sources import Joined, open_sources
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.types import without_padding

NAME = 'mic_records'


class Vocabulary(seqio.Vocabulary):
  """A Tokenizer as SeqIO's code calls it; equal if its pieces are."""

  def __init__(self, path: str):
    super().__init__()
    self.tokenizer = Tokenizer(path)

  @property
  def bos_id(self) -> int:
    return self.tokenizer.pad_id  # T5 starts to decode with it

  @property
  def eos_id(self) -> int:
    return self.tokenizer.eos_id

  @property
  def unk_id(self) -> int:
    return self.tokenizer.unk_id

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def _encode(self, s: str) -> Sequence[int]:
    return self.tokenizer.encode(s)

  def _decode(self, ids) -> str:
    return self.tokenizer.decode(ids)

  def _encode_tf(self, s):
    def encode(text: Any) -> np.ndarray:
      # bytes in a dataset, an array of one object where TensorFlow is eager
      one = np.asarray(text, object).item()
      return np.array(self.tokenizer.encode(one.decode()), np.int32)

    ids = tf.numpy_function(encode, [s], tf.int32, stateful=False)
    return tf.ensure_shape(ids, [None])

  def _decode_tf(self, ids):
    def decode(ids: np.ndarray) -> np.ndarray:
      rows = ids.reshape(-1, ids.shape[-1])
      texts = [self.tokenizer.decode(row).encode() for row in rows]
      return np.array(texts, object).reshape(ids.shape[:-1])

    texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
    return tf.ensure_shape(texts, ids.shape[:-1])

  def __eq__(self, other: Any) -> bool:
    return (
      isinstance(other, Vocabulary)
      and self.tokenizer.__getstate__() == other.tokenizer.__getstate__()
    )

  def __hash__(self) -> int:
    return hash(self.tokenizer.__getstate__())


class FeatureConverter(seqio.EncDecFeatureConverter):
  """Task features -> Batch; images stay bytes [N, H, W, 3] a row.

  They have no packed form, so `pack` must be False.
  """

  TASK_FEATURES = {
    **seqio.EncDecFeatureConverter.TASK_FEATURES,
    'images': seqio.FeatureConverter.FeatureSpec(dtype=tf.uint8, rank=4),
  }
  MODEL_FEATURES = {
    **seqio.EncDecFeatureConverter.MODEL_FEATURES,
    'encoder_images': seqio.FeatureConverter.FeatureSpec(
      dtype=tf.uint8, rank=4
    ),
  }
  RENAMED = {'images': 'encoder_images'}

  def __init__(self, pack: bool = False, **options: Any):
    if pack:
      raise UserError(
        'examples with images cannot be packed: set DatasetConfig.pack = False'
      )
    super().__init__(pack=False, **options)

  def _convert_example(self, features):
    extra = {new: features[old] for old, new in self.RENAMED.items()}
    return {**super()._convert_example(features), **extra}

  def get_model_feature_lengths(self, task_feature_lengths):
    extra = {n: task_feature_lengths[o] for o, n in self.RENAMED.items()}
    return {**super().get_model_feature_lengths(task_feature_lengths), **extra}


class InstructionFeatureConverter(FeatureConverter):
  """The same with the text that InstructBLIP's Q-Former reads."""

  TASK_FEATURES = {
    **FeatureConverter.TASK_FEATURES,
    'qformer_inputs': seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  MODEL_FEATURES = {
    **FeatureConverter.MODEL_FEATURES,
    'qformer_input_tokens': seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  RENAMED = {
    **FeatureConverter.RENAMED,
    'qformer_inputs': 'qformer_input_tokens',
  }


def exact_match(
  targets: Sequence[str], predictions: Sequence[str]
) -> dict[str, float]:
  """Percentage of answers that are right but for case and outer blanks."""
  hits = [
    target.strip().lower() == answer.strip().lower()
    for target, answer in zip(targets, predictions, strict=True)
  ]
  return {'exact_match': 100 * sum(hits) / max(len(hits), 1)}


def add(
  name: str,
  splits: Mapping[str, Sequence[Any]],
  vocabulary: str,
  spec: FeatureSpec,
  *,
  qformer_vocabulary: str | None = None,
  metric_fns: Sequence[Any] = (exact_match,),
) -> seqio.Task:
  """Declares a task over sequences of Examples or Records, one a split.

  spec: the lengths that hold where SeqIO is given none. A task of that name is
  replaced. The dataset keeps `inputs_pretokenized` and `targets_pretokenized`,
  which T5X prints, as texts; it never has pixels under such a name.
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
      functools.partial(
        to_features, tokenizer=words.tokenizer, spec=spec, bert=bert
      ),
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

  data, eval_data: files of the splits 'train' and 'validation'. The arguments
  mean what they mean to data.loader.record_loader, and so do the errors.
  """
  check_vocabulary(Tokenizer(vocabulary), model, vocabulary)
  files = {'train': data, 'validation': eval_data}
  splits = {
    split: Joined(open_sources(paths, data_dir, templates, seed))
    for split, paths in files.items()
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


def feature_lengths(
  inputs_length: int,
  targets_length: int,
  max_images: int,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
) -> dict[str, int]:
  """SeqIO's task_feature_lengths."""
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
  """The numbers of a split's examples; SeqIO shards them before the reading."""
  dataset = tf.data.Dataset.range(sizes[split])
  if shuffle_files:
    dataset = dataset.shuffle(sizes[split], seed=seed)
  return dataset.map(lambda index: {'split': split, 'index': index})


def read_examples(
  dataset: tf.data.Dataset,
  *,
  splits: Mapping[str, Sequence[Any]],
  image_size: int,
) -> tf.data.Dataset:
  """(split, index) -> texts, and images as PNG of the model's size."""

  def one(split: bytes, index: Any) -> tuple[Any, ...]:
    example, own = as_example(splits[split.decode()][int(index)], int(index))
    name = example.name or own
    images = [to_png(load_image(x, image_size), 1) for x in example.images]
    turns = [[t.text, len(t.images), t.answer] for t in example.turns]
    return (
      name.encode(),
      example.inputs.encode(),
      example.targets.encode(),
      json.dumps([example.style, turns]).encode(),
      np.array(images, object),
    )

  def run(features):
    found = tf.numpy_function(
      one, [features['split'], features['index']], [tf.string] * 5, False
    )
    names = ('id', 'inputs_pretokenized', 'targets_pretokenized', 'turns')
    texts = [tf.ensure_shape(x, []) for x in found[:4]]
    images = tf.ensure_shape(found[4], [None])
    return {**dict(zip(names, texts, strict=True)), 'image_files': images}

  return dataset.map(run, num_parallel_calls=tf.data.AUTOTUNE)


def to_features(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int] | None,
  *,
  tokenizer: Tokenizer,
  spec: FeatureSpec,
  bert: BertTokenizer | None,
) -> tf.data.Dataset:
  """What `read` gave -> ids with the end token, pixels; not padded."""
  limits = dict(sequence_length or {})
  spec = FeatureSpec(
    limits.get('inputs') or spec.inputs_length,
    limits.get('targets') or spec.targets_length,
    limits.get('images') or spec.max_images,
    spec.image_size,
    spec.num_queries,
    limits.get('qformer_inputs') or spec.qformer_length,
  )

  def one(name, inputs, targets, turns, files) -> list[np.ndarray]:
    images = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    example = _example(name, inputs, targets, turns, images)
    row = featurize(example, tokenizer, spec, qformer_tokenizer=bert)
    found = [
      without_padding(row['encoder_input_tokens']),
      row['decoder_target_tokens'][: row['decoder_loss_weights'].sum()],
      row['encoder_images'][: len(images)],
    ]
    if bert is not None:
      found.append(without_padding(row['qformer_input_tokens']))
    return found

  texts = ('id', 'inputs_pretokenized', 'targets_pretokenized')
  size = spec.image_size
  shapes = {
    'inputs': [None],
    'targets': [None],
    'images': [None, size, size, 3],
  }
  types = [tf.int32, tf.int32, tf.uint8]
  if bert is not None:
    shapes['qformer_inputs'], types = [None], [*types, tf.int32]

  def run(features):
    given = [features[key] for key in (*texts, 'turns', 'image_files')]
    found = tf.numpy_function(one, given, types, False)
    arrays = {
      key: tf.ensure_shape(x, shape)
      for (key, shape), x in zip(shapes.items(), found, strict=True)
    }
    return {**arrays, **{key: features[key] for key in texts}}

  return dataset.map(run, num_parallel_calls=tf.data.AUTOTUNE)


def _example(name, inputs, targets, turns, images) -> Example:
  style, rows = json.loads(turns)
  rest, parts = list(images), []
  for text, count, answer in rows:
    parts.append(Turn(text, tuple(rest[:count]), answer))
    rest = rest[count:]
  return Example(
    inputs.decode(),
    targets.decode(),
    tuple(images),
    tuple(parts),
    style,
    name.decode(),
  )
