"""Turns an Example into the padded arrays of one row.

fitting.py shortens what is too long.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mmicl_jax.context.turns import Example
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.fitting import FeatureSpec, Truncation, fit
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer

Features = dict[str, np.ndarray]


def feature_spec(
  model: MMICLConfig,
  inputs_length: int,
  targets_length: int,
  max_images: int,
  qformer_length: int | None = None,
) -> FeatureSpec:
  """The shapes of a model's rows; raises UserError for impossible lengths."""
  if min(inputs_length, targets_length) < 1 or max_images < 0:
    raise UserError(
      f'INPUTS_LENGTH ({inputs_length}) and TARGETS_LENGTH ({targets_length}) '
      f'must be at least 1, MAX_IMAGES ({max_images}) at least 0'
    )
  if targets_length == 1:
    raise UserError(
      'TARGETS_LENGTH 1 has room for the end token alone, and no token of any '
      'answer would be left: raise it'
    )
  return FeatureSpec(
    inputs_length,
    targets_length,
    max_images,
    model.vit.image_size,
    model.qformer.num_queries,
    qformer_length,
  )


def check_vocabulary(
  tokenizer: Tokenizer, model: MMICLConfig, path: str
) -> None:
  """Raises UserError if a vocabulary is not the model's."""
  if tokenizer.image_id != model.image_token:
    raise UserError(
      f'{path} gives 图 the id {tokenizer.image_id}, but the model expects '
      f'{model.image_token}: use the vocabulary that belongs to the model'
    )
  if tokenizer.vocab_size > model.t5.vocab_size:
    raise UserError(
      f'{path} has {tokenizer.vocab_size} tokens, but the model embeds only '
      f'{model.t5.vocab_size}: use the vocabulary that belongs to the model'
    )


def _warn(truncation: Truncation) -> None:
  warnings.warn(str(truncation), stacklevel=4)


def featurize(
  example: Example,
  tokenizer: Tokenizer,
  spec: FeatureSpec,
  *,
  qformer_tokenizer: BertTokenizer | None = None,
  on_truncation: Callable[[Truncation], None] = _warn,
  features_of: FeatureStore | None = None,
) -> Features:
  """Makes the row of a Batch that holds the example, padded with 0.

  It holds encoder_input_tokens i32[T] (with the end token), encoder_images
  u8[N, H, W, 3], decoder_input_tokens, decoder_target_tokens and
  decoder_loss_weights i32[U] and, if spec.qformer_length is set,
  qformer_input_tokens i32[S]. With `features_of` it holds encoder_features
  [N, Q, E] instead of encoder_images. on_truncation: called if anything was
  left out; by default it warns.

  Raises UserError, naming the example, if the answer contains 图, an image
  cannot be read, or images and declarations alone are too long.
  """
  found = read_pieces(
    example,
    tokenizer,
    spec,
    qformer_tokenizer=qformer_tokenizer,
    on_truncation=on_truncation,
    features_of=features_of,
  )
  target_tokens = _padded(found.targets, spec.targets_length)
  features = {
    'encoder_input_tokens': _padded(found.inputs, spec.inputs_length),
    **_vision(found.images, spec, features_of),
    'decoder_input_tokens': np.concatenate(
      [np.zeros(1, np.int32), target_tokens[:-1]]
    ),
    'decoder_target_tokens': target_tokens,
    'decoder_loss_weights': _padded(
      [1] * len(found.targets), spec.targets_length
    ),
  }
  if spec.qformer_length is not None:
    features['qformer_input_tokens'] = _padded(found.words, spec.qformer_length)
  return features


class Pieces(NamedTuple):
  """What an example gives a batch, without padding.

  inputs, targets: ids with their end tokens. images: each u8[H, W, 3] or, with
  stored features, [Q, E]. words: the ids that the Q-Former reads, if it reads
  any.
  """

  inputs: list[int]
  targets: list[int]
  images: list[np.ndarray]
  words: list[int]


def read_pieces(
  example: Example,
  tokenizer: Tokenizer,
  spec: FeatureSpec,
  *,
  qformer_tokenizer: BertTokenizer | None = None,
  on_truncation: Callable[[Truncation], None] = _warn,
  features_of: FeatureStore | None = None,
) -> Pieces:
  """Fits an example and reads its images; for arguments see `featurize`."""
  fitted = fit(example, tokenizer, spec)
  words = []
  if spec.qformer_length is not None:
    if qformer_tokenizer is None:
      raise ValueError('qformer_length needs a qformer_tokenizer')
    words = instruction_ids(
      fitted.inputs[:-1], tokenizer, qformer_tokenizer, spec.qformer_length
    )
  images = _images(fitted.example, spec, fitted.lost.name, features_of)
  if fitted.lost:
    # At the end: a refused example reports nothing.
    on_truncation(fitted.lost)
  return Pieces(fitted.inputs, fitted.targets, images, words)


def instruction_ids(
  ids: Sequence[int],
  tokenizer: Tokenizer,
  qformer_tokenizer: BertTokenizer,
  length: int,
) -> list[int]:
  """The Q-Former's ids for a prompt with these T5 ids, at most `length`.

  As in MMICL's published code, the text is decoded from the prompt's ids.
  """
  text = tokenizer.decode(ids, skip_special_tokens=False)
  return qformer_tokenizer.encode(text, length)


def empty(
  spec: FeatureSpec, features_of: FeatureStore | None = None
) -> Features:
  """A row without text, images or loss, which fills the last batch."""
  inputs = np.zeros(spec.inputs_length, np.int32)
  targets = np.zeros(spec.targets_length, np.int32)
  features = {
    'encoder_input_tokens': inputs,
    **_vision([], spec, features_of),
    'decoder_input_tokens': targets,
    'decoder_target_tokens': targets,
    'decoder_loss_weights': targets,
  }
  if spec.qformer_length is not None:
    features['qformer_input_tokens'] = np.zeros(spec.qformer_length, np.int32)
  return features


def collate(rows: Sequence[Features]) -> Features:
  """Stacks rows to a Batch: every array gets a first axis."""
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def pad_images(
  images: Sequence[UInt8[np.ndarray, 'H W 3']], count: int, size: int
) -> UInt8[np.ndarray, 'N H W 3']:
  """Stacks images and adds black ones up to `count`; no 图 refers to those."""
  padded = np.zeros((count, size, size, 3), np.uint8)
  for i, image in enumerate(images):
    padded[i] = image
  return padded


def _vision(
  images: Sequence[np.ndarray],
  spec: FeatureSpec,
  features_of: FeatureStore | None,
) -> Features:
  """A row's images or their features, padded to max_images."""
  if features_of is None:
    return {
      'encoder_images': pad_images(images, spec.max_images, spec.image_size)
    }
  rows = np.zeros((spec.max_images, *features_of.shape), features_of.dtype)
  rows[: len(images)] = images or 0
  return {'encoder_features': rows}


def _images(
  example: Example,
  spec: FeatureSpec,
  name: str,
  features_of: FeatureStore | None,
) -> list[np.ndarray]:
  """An example's images or their features; raises UserError that names it."""
  try:
    if features_of is not None:
      return [features_of.lookup(image) for image in example.images]
    return [load_image(image, spec.image_size) for image in example.images]
  except UserError as error:
    raise UserError(f'{name}: {error}') from error


def _padded(ids: Sequence[int], length: int) -> np.ndarray:
  row = np.zeros(length, np.int32)
  row[: len(ids)] = ids
  return row
