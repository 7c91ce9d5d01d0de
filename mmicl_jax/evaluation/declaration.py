"""Benchmarks as data: how tasks/benchmarks/NAME.json says what to ask.

A declaration names the builder and its splits, the forms of the question, how
it is answered (text, or candidates that are ranked), the settings of decoding,
the scorer, and what was published. A user's own JSON file is read the same way.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmicl_jax.context.templates import FOLDER as TEMPLATES
from mmicl_jax.context.templates import load_templates
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError

FOLDER = TEMPLATES.parent / 'benchmarks'
# What stands for each item's own candidates.
OWN_CANDIDATES = ('choices', 'candidates', 'pictures')


@dataclasses.dataclass(frozen=True)
class Answering:
  """How a question is answered.

  by: 'generation', or 'ranking' of candidates by their log-probabilities.
  candidates: texts; or 'choices' or 'candidates', a list in the item's meta; or
  'pictures', the names of the item's pictures but the first. give: what the
  scorer gets: all 'scores', or the best candidate's 'text' or 'index'; of equal
  scores the earlier candidate is the best. reduce: the 'sum' or 'mean' over a
  candidate's tokens, the end token included, or only the 'first' token.
  """

  by: str = 'generation'
  candidates: tuple[str, ...] | str = ()
  give: str = 'scores'
  reduce: str = 'sum'

  @property
  def ranks(self) -> bool:
    return self.by == 'ranking'


@dataclasses.dataclass(frozen=True)
class Published:
  """A number that was published; value in the scorer's unit."""

  model: str
  metric: str
  value: float
  source: str
  setting: str = ''


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """What a declaration says.

  dataset, splits, settings: as `mmicl data build` knows them; no splits are all
  that the files have. shot_splits: where demonstrations of a split's items come
  from, if not from the split itself. ask: 'items', or 'pairs' for Winoground's
  four questions of two pictures and two captions. shown: the answer that
  demonstrations show, if not one that the builder draws: 'shortest', or a list
  in the item's meta. answering: of every split; split_answering: of some.
  rotations: rows whose numbers differ by multiples of it are one item, as
  MMBench's. annotations: names of files that the scorer reads besides those
  that the questions come from, where they are there. decoding: fields of
  Options.
  """

  name: str
  title: str
  dataset: str
  scorer: str
  forms: tuple[str, ...]
  splits: tuple[str, ...] = ()
  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  shot_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  shots: int = 0
  style: str = 'plain'
  ask: str = 'items'
  shown: str = ''
  answering: Answering = Answering()
  split_answering: Mapping[str, Answering] = dataclasses.field(
    default_factory=dict
  )
  annotations: tuple[str, ...] = ()
  decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rotations: int = 0
  mode: str = 'official'
  prompt_source: str = ''
  published: tuple[Published, ...] = ()
  notes: tuple[str, ...] = ()

  @property
  def options(self) -> Options:
    """The settings of decoding."""
    return Options(**self.decoding)

  def answering_of(self, split: str) -> Answering:
    """How the items of a split are answered."""
    return self.split_answering.get(split, self.answering)


def names() -> list[str]:
  """The names of all benchmarks that come with the package."""
  return sorted(path.stem for path in FOLDER.glob('*.json'))


def load_benchmark(name: str) -> Benchmark:
  """Reads a benchmark by name ('mme'), or a declaration by path.

  Raises UserError if there is none, or if it is not as it should be.
  """
  path = Path(name) if name.endswith('.json') else FOLDER / f'{name}.json'
  if not path.is_file():
    raise UserError(
      f'--task {name}: unknown; give a JSON file, or one of '
      f'{", ".join(names())}'
    )
  try:
    value = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise UserError(f'{path}: not JSON ({error}): repair it') from error
  try:
    return _benchmark(path, value)
  except (TypeError, ValueError, KeyError, AttributeError) as error:
    raise UserError(
      f'{path}: not a declaration of a benchmark ({error}): write it as those '
      f'in {FOLDER.parent.name}/{FOLDER.name}'
    ) from error


def _benchmark(path: Path, value: dict[str, Any]) -> Benchmark:
  value = {'title': path.stem, **value, 'name': path.stem}
  template = value.pop('template', None)
  if 'forms' not in value:
    value['forms'] = load_templates(template).forms
  for key in ('forms', 'splits', 'annotations', 'notes'):
    if key in value:
      value[key] = _texts(path, key, value[key])
  if not value['forms']:
    raise UserError(f'{path}: "forms" is empty: write at least one')
  value['answering'] = _answering(path, value.get('answering', {}))
  value['split_answering'] = {
    split: _answering(path, own)
    for split, own in value.get('split_answering', {}).items()
  }
  value['published'] = tuple(Published(**x) for x in value.get('published', ()))
  made = Benchmark(**value)
  if made.ask not in ('items', 'pairs'):
    raise UserError(f'{path}: "ask" is {made.ask!r}: write items or pairs')
  _ = made.options  # raises for wrong ones
  return made


def _answering(path: Path, value: dict[str, Any]) -> Answering:
  if isinstance(value.get('candidates'), list):
    own = _texts(path, 'candidates', value['candidates'])
    value = {**value, 'candidates': own}
  made = Answering(**value)
  allowed = {
    'by': ('generation', 'ranking'),
    'give': ('scores', 'text', 'index'),
    'reduce': ('sum', 'mean', 'first'),
  }
  for name, values in allowed.items():
    if getattr(made, name) not in values:
      raise UserError(
        f'{path}: "{name}" is {getattr(made, name)!r}: write '
        f'{" or ".join(values)}'
      )
  texts = isinstance(made.candidates, tuple)
  if not texts and made.candidates not in OWN_CANDIDATES:
    raise UserError(
      f'{path}: "candidates" is a list of texts, or '
      f'{" or ".join(OWN_CANDIDATES)}'
    )
  if made.ranks and not made.candidates:
    raise UserError(f'{path}: "ranking" needs "candidates"')
  return made


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
  if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
    raise UserError(f'{path}: "{key}" is a list of texts')
  return tuple(value)
