"""Makes an example fit the lengths of a row.

A prompt that is too long is shortened: first it loses demonstrations, the
oldest ones first, then words from its beginning. Images and their declarations
always stay. What was left out is reported.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import NamedTuple

from mmicl_jax.context.text import IMAGE, answer_problem, collapse, spans
from mmicl_jax.context.turns import Example
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer

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


class Fitted(NamedTuple):
  """An example that fits: the ids of prompt and answer with their end tokens.

  The example has lost only demonstrations; the ids may lack words, too.
  """

  example: Example
  inputs: list[int]
  targets: list[int]
  lost: Truncation


def fit(example: Example, tokenizer: Tokenizer, spec: FeatureSpec) -> Fitted:
  """Shortens an example; reads no image.

  Raises UserError, naming the example, if the answer contains 图, or images and
  declarations alone are too long.
  """
  fitted, ids, lost = fit_prompt(example, tokenizer, spec)
  if problem := answer_problem(fitted.targets):
    raise UserError(f'{lost.name}: {problem}')
  targets = [*tokenizer.encode(fitted.targets), tokenizer.eos_id]
  cut = max(len(targets) - spec.targets_length, 0)
  if cut:
    targets = [*targets[: spec.targets_length - 1], tokenizer.eos_id]
  lost = dataclasses.replace(lost, target_tokens=cut)
  return Fitted(fitted, [*ids, tokenizer.eos_id], targets, lost)


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


def _check_copies(example: Example, spec: FeatureSpec, name: str) -> None:
  """Raises UserError unless each image has one 图 or num_queries of them."""
  if wrong := [n for n in example.copies if n not in (1, spec.num_queries)]:
    raise UserError(
      f'{name}: {wrong[0]} {IMAGE} in a row stand for one image of '
      f'{spec.num_queries} tokens; write one {IMAGE} for each image.'
    )


def prompt_ids(
  inputs: str, tokenizer: Tokenizer, num_queries: int
) -> list[int]:
  """A prompt's ids, with num_queries tokens for each image and no end token."""
  copies = IMAGE * num_queries
  return tokenizer.encode(collapse(inputs).replace(IMAGE, copies))


def _fit(
  example: Example, tokenizer: Tokenizer, spec: FeatureSpec, name: str
) -> tuple[Example, list[int], int]:
  """Returns (example, ids without the end token, number of words left out)."""
  limit = spec.inputs_length - 1  # one place is the end token's

  def ids_of(inputs: str) -> list[int]:
    return prompt_ids(inputs, tokenizer, spec.num_queries)

  def fits(shots: int) -> bool:
    part = example.keep_shots(shots)
    return (
      len(part.images) <= spec.max_images and len(ids_of(part.inputs)) <= limit
    )

  if example.num_shots and not fits(example.num_shots):
    example = example.keep_shots(_most_shots(example, fits))
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


def _most_shots(example: Example, fits: Callable[[int], bool]) -> int:
  """The most demonstrations with which a prompt fits that does not with all.

  0 if it never does. Leaving out a demonstration without images leaves the text
  of the others as it is, so that fewer of these always need fewer tokens: they
  are bisected. One with images gives the others' images new numbers, which may
  need more tokens, so what is before it is looked at by itself.
  """
  shots = example.turns[:-1]
  high = len(shots) - 1
  while high > 0:
    low = high
    while low > 0 and not shots[len(shots) - low].images:
      low -= 1
    if fits(low):
      while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
          low = middle
        else:
          high = middle - 1
      return low
    high = low - 1
  return 0


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
