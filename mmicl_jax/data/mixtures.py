"""Mixtures as data: which sets are trained on, at which rates.

`tasks/mixtures/NAME.json` is `{"train": {SET: RATE}, "validation": {SET:
COUNT}}`; a rate of null is the set's number of records. `tasks/sets/SET.json`
says where the splits of a set lie in the folder of all sets, as a name that
opened.py reads or as a list of which the first that is there is taken; without
such a file they are `SET/train` and `SET/val`. gin files give what the
functions return to both trainers.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.templates import FOLDER as TEMPLATES
from mmicl_jax.data.opened import is_there, record_files
from mmicl_jax.data.tfds_sets import PREFIX
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

_TASKS = TEMPLATES.parent


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Sets in the order of their turns. train: rates; validation: how many."""

  name: str
  train: Mapping[str, float | int | None]
  validation: Mapping[str, int]

  def without(self, names: Sequence[str]) -> 'Mixture':
    """The mixture without some sets; raises UserError for unknown ones."""
    for name in names:
      if name not in self.train:
        raise UserError(
          f'WITHOUT names {name}, but {self.name} has only '
          f'{", ".join(self.train)}'
        )
    train = {k: v for k, v in self.train.items() if k not in names}
    if not train:
      raise UserError(f'WITHOUT leaves nothing of {self.name}: keep a set')
    held_out = {k: v for k, v in self.validation.items() if k in train}
    return Mixture(self.name, train, held_out)


def load_mixture(name: str) -> Mixture:
  """Reads a mixture by name ('mic') or of a JSON file by path.

  Raises UserError if there is none, or if the file has another form.
  """
  path = Path(name)
  if path.suffix == '.json':
    path = Path(local_file(name))
  else:
    path = _TASKS / 'mixtures' / f'{name}.json'
  if not path.is_file():
    known = ', '.join(sorted(p.stem for p in path.parent.glob('*.json')))
    raise UserError(f'no mixture {path}: use one of {known}, or a JSON path')
  try:
    value = json.loads(path.read_text('utf-8'))
    train, held_out = value['train'], value.get('validation', {})
    rates, counts = [*train.values()], [*held_out.values()]
    weighed = None not in rates
    if not train or not set(held_out) <= set(train):
      raise TypeError
    if not all(_above_0(x) for x in counts + (rates if weighed else [])):
      raise TypeError
    if not weighed and any(rates):
      raise TypeError
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path}: a mixture is {{"train": {{SET: RATE}}, "validation": {{SET: '
      'COUNT}}}}, with numbers above 0, or null for all rates'
    ) from error
  return Mixture(path.stem, train, held_out)


def _above_0(value: Any) -> bool:
  return (
    isinstance(value, int | float) and not isinstance(value, bool) and value > 0
  )


def mixture_name(mixture: str) -> str:
  """What a mixture is called, for TASK_NAME: letters, digits and _ only."""
  return re.sub('[^A-Za-z0-9_]', '_', load_mixture(mixture).name)


def set_names(name: str, split: str) -> list[str]:
  """Where a set's split may lie in the folder of all sets; [] for nowhere."""
  path = _TASKS / 'sets' / f'{name}.json'
  if not path.is_file():
    return [f'{name}/{"train" if split == "train" else "val"}']
  names = json.loads(path.read_text('utf-8'))['splits'].get(split, [])
  return [names] if isinstance(names, str) else names


def training_data(
  mixture: str, folder: str, without: Sequence[str] = ()
) -> tuple[str, ...]:
  """The names of a mixture's training data, for DATA.

  folder: that of all sets, one folder each. without: sets to leave out. Raises
  UserError, naming all of them, for sets that are not there.
  """
  sets = load_mixture(mixture).without(without).train
  return _places(sets, 'train', folder)


def training_rates(
  mixture: str, without: Sequence[str] = ()
) -> tuple[float | int, ...] | None:
  """The rates of `training_data`, for WEIGHTS; None: as many as there are."""
  rates = load_mixture(mixture).without(without).train.values()
  # Either all of them are null or none.
  return tuple(rate for rate in rates if rate is not None) or None


def held_out_data(
  mixture: str, folder: str, without: Sequence[str] = ()
) -> tuple[str, ...] | None:
  """The names of a mixture's held-out data, for EVAL_DATA; None without any.

  The arguments, and the error, are those of `training_data`.
  """
  sets = load_mixture(mixture).without(without).validation
  return _places(sets, 'validation', folder) or None


def held_out_counts(
  mixture: str, without: Sequence[str] = ()
) -> tuple[int, ...] | None:
  """How many records of each of `held_out_data` to take, for EVAL_LIMIT."""
  counts = load_mixture(mixture).without(without).validation.values()
  return tuple(counts) or None


def _places(
  sets: Mapping[str, Any], split: str, folder: str
) -> tuple[str, ...]:
  remote.only_here(folder, 'SETS_DIR')
  found = {
    name: [_placed(folder, place) for place in set_names(name, split)]
    for name in sets
  }
  there = {
    name: next(filter(_all_there, places), None)
    for name, places in found.items()
  }
  if absent := [name for name, place in there.items() if place is None]:
    places = ' or '.join(found[absent[0]])
    rather = '' if split == 'train' else ', or set EVAL_DATA = None'
    raise UserError(
      f'no {split} records of {", ".join(absent)} in {folder} ({absent[0]} '
      f'would be {places}): build them by mmicl data build, or name them in '
      f'WITHOUT{rather}'
    )
  return tuple(place for place in there.values() if place is not None)


def _placed(folder: str, name: str) -> str:
  return name if name.startswith(PREFIX) else os.path.join(folder, name)


def _all_there(place: str) -> bool:
  return all(map(is_there, record_files(place)))
