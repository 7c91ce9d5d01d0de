"""Turns an Example into the padded arrays of one row.

A prompt that is too long is shortened: first it loses demonstrations, the
oldest ones first, then words from its beginning. Images and their declarations
always stay. What was left out is reported.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from mmicl_jax.context.text import IMAGE, answer_problem, collapse, spans
from mmicl_jax.context.turns import Example
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer

Features = dict[str, np.ndarray]

_WORD = re.compile(r'\S+')


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
  """The shapes that every row is padded to, with the letters of types.py.

  inputs_length T, targets_length U, max_images N, image_size H = W (pixels),
  num_queries Q, and qformer_length S, None if the Q-Former reads no text.
  """

  inputs_length: int
  targets_length: int
  max_images: int
  image_size: int
  num_queries: int
  qformer_length: int | None = None


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


@dataclasses.dataclass(frozen=True)
class Truncation:
  """How much of an example was left out to make it fit; true if anything."""

  name: str
  demonstrations: int = 0
  words: int = 0
  target_tokens: int = 0

  def __bool__(self) -> bool:
    return bool(self.demonstrations or self.words or self.target_tokens)

  def __str__(self) -> str:
    lost = (
      (self.demonstrations, 'demonstration', ''),
      (self.words, 'word', ' of the prompt'),
      (self.target_tokens, 'token', ' of the answer'),
    )
    parts = ', '.join(
      f'{count} {what}{"s" * (count != 1)}{of}'
      for count, what, of in lost
      if count
    )
    return f'{self.name}: left out {parts} to fit the lengths'


def _warn(truncation: Truncation) -> None:
  warnings.warn(str(truncation), stacklevel=3)


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
  fitted, ids, lost = fit_prompt(example, tokenizer, spec)
  if problem := answer_problem(fitted.targets):
    raise UserError(f'{lost.name}: {problem}')
  targets = [*tokenizer.encode(fitted.targets), tokenizer.eos_id]
  cut = max(len(targets) - spec.targets_length, 0)
  if cut:
    targets = [*targets[: spec.targets_length - 1], tokenizer.eos_id]

  target_tokens = _padded(targets, spec.targets_length)
  features = {
    'encoder_input_tokens': _padded(
      [*ids, tokenizer.eos_id], spec.inputs_length
    ),
    **_vision(fitted, spec, lost.name, features_of),
    'decoder_input_tokens': np.concatenate(
      [np.zeros(1, np.int32), target_tokens[:-1]]
    ),
    'decoder_target_tokens': target_tokens,
    'decoder_loss_weights': _padded([1] * len(targets), spec.targets_length),
  }
  if spec.qformer_length is not None:
    if qformer_tokenizer is None:
      raise ValueError('qformer_length needs a qformer_tokenizer')
    words = instruction_ids(
      ids, tokenizer, qformer_tokenizer, spec.qformer_length
    )
    features['qformer_input_tokens'] = _padded(words, spec.qformer_length)
  if truncation := dataclasses.replace(lost, target_tokens=cut):
    on_truncation(truncation)  # at the end: a refused example reports nothing
  return features


def fit_prompt(
  example: Example, tokenizer: Tokenizer, spec: FeatureSpec
) -> tuple[Example, list[int], Truncation]:
  """Shortens a prompt; returns (example, ids of its prompt, what it lost).

  The ids have num_queries tokens for each image and no end token. The example
  has lost only demonstrations; the ids may lack words, too. Raises UserError,
  naming the example, if images and declarations alone are too long.
  """
  name = example.name or f'example {example.inputs[:60]!r}'
  _check_copies(example, spec, name)
  fitted, ids, words = _fit(example, tokenizer, spec, name)
  dropped = example.num_shots - fitted.num_shots
  return fitted, ids, Truncation(name, dropped, words)


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
    **_vision(None, spec, '', features_of),
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


def _check_copies(example: Example, spec: FeatureSpec, name: str) -> None:
  """Raises UserError unless each image has one 图 or num_queries of them."""
  if wrong := [n for n in example.copies if n not in (1, spec.num_queries)]:
    raise UserError(
      f'{name}: {wrong[0]} {IMAGE} in a row stand for one image of '
      f'{spec.num_queries} tokens; write one {IMAGE} for each image.'
    )


def _fit(
  example: Example, tokenizer: Tokenizer, spec: FeatureSpec, name: str
) -> tuple[Example, list[int], int]:
  """Returns (example, ids without the end token, number of words left out)."""
  limit = spec.inputs_length - 1  # one place is the end token's

  def ids_of(inputs: str) -> list[int]:
    copies = IMAGE * spec.num_queries
    return tokenizer.encode(collapse(inputs).replace(IMAGE, copies))

  ids = ids_of(example.inputs)
  while example.num_shots and (
    len(ids) > limit or len(example.images) > spec.max_images
  ):
    example = example.keep_shots(example.num_shots - 1)
    ids = ids_of(example.inputs)
  if len(example.images) > spec.max_images:
    raise UserError(
      f'{name}: {len(example.images)} images, but max_images is '
      f'{spec.max_images}; raise it or leave images out.'
    )
  if len(ids) <= limit:
    return example, ids, 0
  low, high = 1, _count_words(example.inputs)
  needed = len(ids_of(_without_words(example.inputs, high))) + 1
  if needed > spec.inputs_length:
    raise UserError(
      f'{name}: its images and their declarations alone need inputs_length '
      f'{needed}, it is {spec.inputs_length}; raise it or leave images out.'
    )
  while low < high:
    middle = (low + high) // 2
    if len(ids_of(_without_words(example.inputs, middle))) > limit:
      low = middle + 1
    else:
      high = middle
  return example, ids_of(_without_words(example.inputs, high)), high


def _count_words(inputs: str) -> int:
  return sum(
    len(_WORD.findall(span.text))
    for span in spans(inputs)
    if not span.protected
  )


def _without_words(inputs: str, count: int) -> str:
  """The prompt without its first `count` unprotected words.

  The spaces around them stay: they separate what is left, and add no ids.
  """
  parts = []
  for span in spans(inputs):
    text = span.text
    if not span.protected:
      found = len(_WORD.findall(text))
      text = _WORD.sub('', text, count=min(count, found)) if count else text
      count -= min(count, found)
    parts.append(text)
  return ''.join(parts)


def _vision(
  example: Example | None,
  spec: FeatureSpec,
  name: str,
  features_of: FeatureStore | None,
) -> Features:
  """A row's images or their features, padded; none if there is no example."""
  if features_of is None:
    loaded = _load(example, spec.image_size, name) if example else []
    padded = pad_images(loaded, spec.max_images, spec.image_size)
    return {'encoder_images': padded}
  rows = np.zeros((spec.max_images, *features_of.shape), features_of.dtype)
  for i, image in enumerate(example.images if example else ()):
    try:
      rows[i] = features_of.lookup(image)
    except UserError as error:
      raise UserError(f'{name}: {error}') from error
  return {'encoder_features': rows}


def _load(
  example: Example, size: int, name: str
) -> list[UInt8[np.ndarray, 'H W 3']]:
  try:
    return [load_image(image, size) for image in example.images]
  except UserError as error:
    raise UserError(f'{name}: {error}') from error


def _padded(ids: Sequence[int], length: int) -> np.ndarray:
  row = np.zeros(length, np.int32)
  row[: len(ids)] = ids
  return row
