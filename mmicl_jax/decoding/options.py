"""How to generate: the users' options, and their two halves for the loop.

Static options shape the compiled loop; dynamic ones are its arguments.
"""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Shaped

from mmicl_jax.errors import UserError
from mmicl_jax.types import EOS

BEAM_SEARCHES = ('transformers5', 'transformers4')
Scalar = Shaped[Array, ''] | float | int

# The whole-number options with the least value of each, and the real ones.
WHOLE = {
  'num_beams': 1,
  'max_new_tokens': 1,
  'num_return_sequences': 1,
  'min_new_tokens': 0,
  'top_k': 0,
  'no_repeat_ngram_size': 0,
  'seed': -(2**63),
}
REAL = ('length_penalty', 'temperature', 'top_p', 'repetition_penalty')
LARGEST = 1e30  # float32 scores are multiplied or divided by at most this


@dataclasses.dataclass(frozen=True)
class Options:
  """How to generate. Names, defaults and meanings are those of transformers.

  early_stopping: True, False or 'never'. top_k: 0 keeps all tokens. stop: texts
  at which generation ends; they stay in the answer. seed: a whole number of 64
  bits. beam_search: 'transformers5', or 'transformers4' for the search behind
  the published numbers (former_beam.py). Raises UserError for a value of the
  wrong type, and for values or combinations that mean nothing.
  """

  num_beams: int = 1
  max_new_tokens: int = 50
  min_new_tokens: int = 0
  length_penalty: float = 1.0
  early_stopping: bool | str = False
  num_return_sequences: int = 1
  do_sample: bool = False
  temperature: float = 1.0
  top_k: int = 50
  top_p: float = 1.0
  repetition_penalty: float = 1.0
  no_repeat_ngram_size: int = 0
  stop: str | Sequence[str] = ()
  seed: int = 0
  beam_search: str = 'transformers5'

  def __post_init__(self):
    for name, least in WHOLE.items():
      most = 2**64 if name == 'seed' else 2**31
      self._set(name, _whole(name, getattr(self, name), least, most))
    for name in REAL:
      self._set(name, _real(name, getattr(self, name)))
    self._set('do_sample', _flag('do_sample', self.do_sample))
    if self.early_stopping != 'never':
      early = _flag(
        'early_stopping', self.early_stopping, "True, False, 'never'"
      )
      self._set('early_stopping', early)
    self._set('stop', _texts(self.stop))
    if self.beam_search not in BEAM_SEARCHES:
      raise UserError(
        f'beam_search is {self.beam_search!r}: give one of '
        f'{", ".join(map(repr, BEAM_SEARCHES))}.'
      )
    self._check_together()

  def _set(self, name: str, value: Any) -> None:
    object.__setattr__(self, name, value)

  def _check_together(self) -> None:
    if self.top_p > 1:
      raise UserError(
        f'top_p is {self.top_p}: it is a probability, so give at most 1.'
      )
    if self.min_new_tokens > self.max_new_tokens:
      raise UserError(
        f'min_new_tokens is {self.min_new_tokens} but max_new_tokens is '
        f'{self.max_new_tokens}: give at most as many.'
      )
    most = math.log(LARGEST) / math.log(self.max_new_tokens + 1)
    if abs(self.length_penalty) > most:
      raise UserError(
        f'length_penalty is {self.length_penalty}: no score can be divided by '
        f'{self.max_new_tokens} tokens to that power; give one between '
        f'{-most:.1f} and {most:.1f}.'
      )
    searched = self.num_beams > 1
    if searched and self.do_sample and self.beam_search == 'transformers4':
      raise UserError(
        "beam_search is 'transformers4' but do_sample is True: only a search "
        'without samples finds again what transformers 4 found.'
      )
    free = self.do_sample and not searched
    if self.num_return_sequences > self.num_beams and not free:
      raise UserError(
        f'num_return_sequences is {self.num_return_sequences} but num_beams is '
        f'{self.num_beams}: search with as many beams, or sample with one.'
      )


def _whole(name: str, value: Any, least: int, below: int) -> int:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise UserError(f'{name} is {value!r}: give a whole number.')
  number = int(value)
  if number < least:
    raise UserError(f'{name} is {number}: give at least {least}.')
  if number >= below:
    raise UserError(f'{name} is {number}: give at most {below - 1}.')
  return number


def _real(name: str, value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise UserError(f'{name} is {value!r}: give a number.')
  try:
    number = float(value)
  except OverflowError:  # a whole number too large for a float
    number = math.inf
  if not math.isfinite(number):
    raise UserError(f'{name} is {value}: give a finite number.')
  if name == 'length_penalty':
    return number
  if number <= 0:
    raise UserError(f'{name} is {value}: give more than 0.')
  if not 1 / LARGEST <= number <= LARGEST:
    raise UserError(
      f'{name} is {value}: give a number between {1 / LARGEST:g} and '
      f'{LARGEST:g}.'
    )
  return number


def _flag(name: str, value: Any, choices: str = 'True or False') -> bool:
  if not isinstance(value, bool | np.bool_):
    raise UserError(f'{name} is {value!r}: give {choices}.')
  return bool(value)


def _texts(stop: Any) -> tuple[str, ...]:
  texts = (stop,) if isinstance(stop, str) else stop
  if not isinstance(texts, Iterable) or isinstance(texts, bytes):
    raise UserError(f'stop is {stop!r}: give a text, or a list of texts.')
  texts = tuple(texts)
  for text in texts:
    if not isinstance(text, str):
      raise UserError(f'stop holds {text!r}: give texts.')
    if not text:
      raise UserError(
        'stop holds an empty text, which would stop every answer.'
      )
  return texts


class DynamicOptions(NamedTuple):
  """Options that are arguments of the loop: new values need no compilation."""

  max_new_tokens: Scalar
  min_new_tokens: Scalar
  length_penalty: Scalar
  temperature: Scalar
  top_p: Scalar
  repetition_penalty: Scalar


@dataclasses.dataclass(frozen=True)
class StaticOptions:
  """Options that shape the compiled loop: each new value compiles it again.

  length: how many new tokens there is room for. nucleus, min_length and
  repetition: whether top_p, min_new_tokens and repetition_penalty have any
  effect.
  """

  length: int
  num_beams: int = 1
  num_return_sequences: int = 1
  early_stopping: bool | str = False
  beam_search: str = 'transformers5'
  do_sample: bool = False
  top_k: int = 50
  nucleus: bool = False
  min_length: bool = False
  repetition: bool = False
  no_repeat_ngram_size: int = 0
  eos: int = EOS
  cache_axis: int = 0  # the cache's axis of rows: 1 if layers are stacked

  @property
  def rows(self) -> int:
    """Rows of the decoder for each example."""
    return max(self.num_beams, self.num_return_sequences)


def split_options(
  options: Options, length: int | None = None
) -> tuple[StaticOptions, DynamicOptions]:
  """Splits options into (static, dynamic).

  length: room for new tokens, at least max_new_tokens, which is the default.
  """
  dynamic = DynamicOptions(
    *(getattr(options, n) for n in DynamicOptions._fields)
  )
  sample, search = options.do_sample, options.num_beams > 1
  return StaticOptions(
    length=length or options.max_new_tokens,
    num_beams=options.num_beams,
    num_return_sequences=options.num_return_sequences,
    early_stopping=options.early_stopping if search else False,
    beam_search=options.beam_search if search else 'transformers5',
    do_sample=sample,
    top_k=options.top_k if sample else 0,
    nucleus=sample and options.top_p < 1,
    min_length=options.min_new_tokens > 0,
    repetition=options.repetition_penalty != 1,
    no_repeat_ngram_size=options.no_repeat_ngram_size,
  ), dynamic
