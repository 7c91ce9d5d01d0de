"""How to generate: the options that users give, in two halves for the loop.

Static options shape the compiled loop; dynamic ones are its arguments.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array, Shaped

from mmicl_jax.errors import UserError
from mmicl_jax.types import EOS

BEAM_SEARCHES = ('transformers5', 'transformers4')
Scalar = Shaped[Array, ''] | float | int


@dataclasses.dataclass(frozen=True)
class Options:
  """How to generate. Names, defaults and meanings are those of transformers.

  early_stopping: True, False or 'never'. top_k 0 keeps all tokens. stop: texts
  at which generation ends; they stay in the answer. beam_search: the search of
  'transformers5', or that of 'transformers4', which the published numbers are
  from (former_beam.py). Raises UserError for a combination without a meaning.
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
    stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
    object.__setattr__(self, 'stop', stop)
    positive = ('num_beams', 'max_new_tokens', 'num_return_sequences')
    natural = ('min_new_tokens', 'top_k', 'no_repeat_ngram_size')
    for names, least in ((positive, 1), (natural, 0)):
      for name in names:
        if getattr(self, name) < least:
          raise UserError(
            f'{name} is {getattr(self, name)}: give at least {least}.'
          )
    for name in ('temperature', 'repetition_penalty', 'top_p'):
      if not getattr(self, name) > 0:
        raise UserError(f'{name} is {getattr(self, name)}: give more than 0.')
    if self.early_stopping not in (True, False, 'never'):
      raise UserError(
        f"early_stopping is {self.early_stopping!r}: give True, False, 'never'."
      )
    if self.beam_search not in BEAM_SEARCHES:
      raise UserError(
        f'beam_search is {self.beam_search!r}: give one of '
        f'{", ".join(map(repr, BEAM_SEARCHES))}.'
      )
    former = self.beam_search == 'transformers4' and self.num_beams > 1
    if former and self.do_sample:
      raise UserError(
        "beam_search is 'transformers4' but do_sample is True: only a search "
        'without samples finds again what transformers 4 found.'
      )
    if '' in stop:
      raise UserError('an empty stop string would stop every answer.')
    free = self.do_sample and self.num_beams == 1
    if self.num_return_sequences > self.num_beams and not free:
      raise UserError(
        f'num_return_sequences is {self.num_return_sequences} but num_beams is '
        f'{self.num_beams}: search with as many beams, or sample with one.'
      )


class DynamicOptions(NamedTuple):
  """Options that are arguments of the compiled loop and cost no compilation."""

  max_new_tokens: Scalar
  min_new_tokens: Scalar
  length_penalty: Scalar
  temperature: Scalar
  top_p: Scalar
  repetition_penalty: Scalar


@dataclasses.dataclass(frozen=True)
class StaticOptions:
  """Options that shape the compiled loop: each new value is compiled anew.

  length: how many new tokens there is room for. nucleus, min_length and
  repetition: whether top_p, min_new_tokens and repetition_penalty do anything.
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
  cache_axis: int = 0  # of rows; 1 where layers are stacked in front

  @property
  def rows(self) -> int:
    """Rows of the decoder for each example."""
    return max(self.num_beams, self.num_return_sequences)


def split_options(
  options: Options, length: int | None = None
) -> tuple[StaticOptions, DynamicOptions]:
  """The two halves of the options; `length` is at least max_new_tokens."""
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
