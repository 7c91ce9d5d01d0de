"""Opens what a person may name for records as sequences of examples.

Both trainers open their data here, so that the same paths, templates and seed
give both the same examples in the same order.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, SupportsIndex

from mmicl_jax.context import templates as forms
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.ablations import ablated_source
from mmicl_jax.data.opened import (
  Chained,
  is_there,
  omissions,
  open_index,
  source_name,
  trained_files,
)
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.mirror import local_file

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
  """A dataset: a JsonlIndex, or any other sequence of Examples or Records.

  weight: its share of the mixture; None takes its number of records. With
  worker processes the sequence must be picklable.
  """

  name: str
  # Of Example or Record; a narrower type, if checked, would open an item.
  data: Sequence[Any]
  weight: float | int | None = None

  @property
  def rate(self) -> float:
    """Its weight, or else its number of records."""
    return float(len(self.data) if self.weight is None else self.weight)


def open_sources(
  data: str | Sequence[str],
  data_dir: str | None = None,
  templates: str | None = None,
  seed: int = 0,
  need_answer: bool = True,
  split: str = 'train',
  weights: float | int | Sequence[float | int] | None = None,
  limit: int | Sequence[int] | None = None,
  ablate: Sequence[str] = (),
) -> list[Source]:
  """Opens one source for each name of `data`, named after it.

  data: record files, or what else opened.py reads. split: the one that the name
  of a built folder stands for. weights: the shares of the names in the mixture,
  None for their numbers of records. limit: so many records, spread evenly over
  those of each name; one number for all names or one for each.
  templates: a name or a JSON path (see context.templates). A record's prompt is
  then one of their forms, drawn by seed and id, and filled with the record's
  other keys (such as `question`) and its images. None: the prompt is
  `input_text`. ablate: of ablations.ABLATIONS, what prompts are to lack. Raises
  UserError for a file that is missing or empty, and if
  there are not as many weights or limits as names.
  """
  paths = [data] if isinstance(data, str) else list(data)
  shares = _for_each('WEIGHTS', weights, paths)
  if isinstance(limit, int):
    limit = [limit] * len(paths)
  limits = _for_each('EVAL_LIMIT', limit, paths)
  chosen = (
    None if templates is None else forms.load_templates(local_file(templates))
  )
  found = []
  for path, weight, most in zip(paths, shares, limits, strict=True):
    files = trained_files(path, split)
    for file in files:
      if not is_there(file):
        raise UserError(
          f'the record file {file} does not exist: correct DATA or EVAL_DATA'
        )
    parts = [open_index(f, data_dir, need_answer=need_answer) for f in files]
    records: Any = parts[0] if len(parts) == 1 else Chained(path, tuple(parts))
    if lost := omissions(parts):
      log.warning('%s: beside %s pairs, %s', path, f'{len(records):,}', lost)
    if not len(records):
      raise UserError(f'{path}: no records; correct the path or drop it.')
    if chosen is not None:
      records = Templated(records, chosen, seed)
    records = ablated_source(records, ablate)
    if most is not None and most < len(records):
      records = Spread(records, most)
    found.append(Source(source_name(path), records, weight))
  return found


def _for_each(
  name: str,
  values: float | int | Sequence[float | int] | None,
  paths: Sequence[str],
) -> Sequence[Any]:
  """One value for each path; raises UserError for another number of them."""
  if values is None:
    return [None] * len(paths)
  found = [values] if isinstance(values, (int, float)) else list(values)
  if len(found) != len(paths) or not all(0 < value for value in found):
    raise UserError(
      f'{name} is {values!r} for {len(paths)} names of data: give one number '
      'above 0 for each'
    )
  return found


@dataclasses.dataclass(frozen=True)
class Spread(Sequence):
  """So many of the records, as evenly spread over them as can be."""

  records: Sequence[Any]
  count: int

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, i: SupportsIndex) -> Any:
    index = range(self.count)[i]
    return self.records[index * len(self.records) // self.count]


class Templated(Sequence):
  """Examples of records whose prompts are made from templates."""

  def __init__(self, records: Sequence[Record], form: Any, seed: int):
    self._records, self._form, self._seed = records, form, seed

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, i: SupportsIndex) -> Example:
    index = range(len(self))[i]
    record = self._records[index]
    meta = record.meta if isinstance(record.meta, dict) else {}
    values = {**meta, **record.extra}
    missing = [f for f in self._form.fields if f not in values]
    if missing:
      raise UserError(
        f'{record.where}: the templates {self._form.name} need the key '
        f'"{missing[0]}": add it to the record, or set TEMPLATES = None'
      )
    fields = {name: str(values[name]) for name in self._form.fields}
    key = index if record.id is None else record.id
    text = self._form.text(self._seed, key, **fields)
    turn = Turn(text, record.images, record.targets)
    return assemble(turn, name=record.where)
