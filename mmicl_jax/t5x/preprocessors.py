"""The two steps of a SeqIO task over records, with a cache between them.

    (split, index) -> `read_examples`: texts, and images as PNG files
      -> cache, if wanted -> `to_features`: what data.features.featurize gives

For an error in a Python function TensorFlow prints its traceback three times.
So a mistake in a record is returned as text, and a tf.debugging.Assert ends the
run with it; `record_sentence` finds the text in TensorFlow's error.
"""

import io
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from mmicl_jax.context.turns import Example, Turn
from mmicl_jax.data.features import featurize
from mmicl_jax.data.fitting import FeatureSpec, Truncation
from mmicl_jax.data.images import load_image, to_png
from mmicl_jax.data.records import as_example
from mmicl_jax.errors import UserError
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.t5x.vocabulary import Vocabulary
from mmicl_jax.types import without_padding

log = logging.getLogger(__name__)


def read_examples(
  dataset: tf.data.Dataset,
  *,
  splits: Mapping[str, Sequence[Any]],
  image_size: int,
) -> tf.data.Dataset:
  """Turns (split, index) into texts, and images as PNG of the model's size.

  splits: the Examples or Records of each split.
  """

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
    found = _call(one, [features['split'], features['index']], [tf.string] * 5)
    names = ('id', 'inputs_pretokenized', 'targets_pretokenized', 'turns')
    texts = [tf.ensure_shape(x, []) for x in found[:4]]
    images = tf.ensure_shape(found[4], [None])
    return {**dict(zip(names, texts, strict=True)), 'image_files': images}

  return dataset.map(run, num_parallel_calls=tf.data.AUTOTUNE)


def to_features(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int] | None,
  *,
  vocabulary: Vocabulary,
  spec: FeatureSpec,
  bert: BertTokenizer | None,
) -> tf.data.Dataset:
  """Turns the result of `read_examples` into token ids and pixels.

  Ids end with the end token; nothing is padded. The first example that is
  shortened is logged. sequence_length: SeqIO's lengths, which win over those of
  `spec`. bert: the Q-Former's tokenizer, if it reads text.
  """
  tokenizer = vocabulary.tokenizer
  limits = dict(sequence_length or {})
  spec = FeatureSpec(
    limits.get('inputs') or spec.inputs_length,
    limits.get('targets') or spec.targets_length,
    limits.get('images') or spec.max_images,
    spec.image_size,
    spec.num_queries,
    limits.get('qformer_inputs') or spec.qformer_length,
  )

  told = []

  def tell_first(truncation: Truncation) -> None:
    if not told:
      told.append(truncation)
      log.warning('the first example that was shortened: %s', truncation)

  def one(name, inputs, targets, turns, files) -> list[np.ndarray]:
    images = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    example = _example(name, inputs, targets, turns, images)
    row = featurize(
      example, tokenizer, spec, qformer_tokenizer=bert, on_truncation=tell_first
    )
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
    found = _call(one, given, types)
    arrays = {
      key: tf.ensure_shape(x, shape)
      for (key, shape), x in zip(shapes.items(), found, strict=True)
    }
    return {**arrays, **{key: features[key] for key in texts}}

  return dataset.map(run, num_parallel_calls=tf.data.AUTOTUNE)


def record_sentence(error: BaseException) -> str | None:
  """The mistake in a record that ended a dataset; None for other errors."""
  found = re.search(r'assertion failed: \[mmicl\] \[(.*)\]', str(error))
  # TensorFlow puts backslashes before quotes and line ends.
  return re.sub(r'\\(.)', r'\1', found[1]) if found else None


def _call(
  function: Callable[..., Sequence[Any]],
  arguments: Sequence[tf.Tensor],
  types: Sequence[tf.DType],
) -> list[tf.Tensor]:
  """tf.numpy_function that turns a UserError into a failed assertion."""

  def guarded(*values: Any) -> list[Any]:
    try:
      return [*function(*values), b'']
    except UserError as error:
      empty = [b'' if t == tf.string else t.as_numpy_dtype() for t in types]
      return [*empty, str(error).encode()]

  *found, mistake = tf.numpy_function(
    guarded, arguments, [*types, tf.string], stateful=False
  )
  with tf.control_dependencies(
    [tf.debugging.Assert(tf.equal(mistake, ''), ['mmicl', mistake])]
  ):
    return [tf.identity(x) for x in found]


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
