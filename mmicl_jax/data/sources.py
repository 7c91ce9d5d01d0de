"""Opens record files, JSON Lines or ArrayRecord, as sequences of examples.

Both trainers open their data here, so that the same paths, templates and seed
give both the same examples in the same order.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex

from mmicl_jax.context import templates as forms
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.opened import Chained, open_index, trained_files
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file


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


def open_sources(
  data: str | Sequence[str],
  data_dir: str | None = None,
  templates: str | None = None,
  seed: int = 0,
  need_answer: bool = True,
  split: str = 'train',
) -> list[Source]:
  """Opens one source for each name of `data`, named after it.

  data: record files, or what else opened.py reads. split: the one that the name
  of a built folder stands for.
  templates: a name or a JSON path (see context.templates). A record's prompt is
  then one of their forms, drawn by seed and id, and filled with the record's
  other keys (such as `question`) and its images. None: the prompt is
  `input_text`. Raises UserError for a file that is missing or empty.
  """
  paths = [data] if isinstance(data, str) else list(data)
  chosen = (
    None if templates is None else forms.load_templates(local_file(templates))
  )
  found = []
  for path in paths:
    files = trained_files(path, split)
    for file in files:
      if not (remote.is_file(file) or os.path.exists(file)):
        raise UserError(
          f'the record file {file} does not exist: correct DATA or EVAL_DATA'
        )
    parts = [open_index(f, data_dir, need_answer=need_answer) for f in files]
    records: Any = parts[0] if len(parts) == 1 else Chained(path, tuple(parts))
    if not len(records):
      raise UserError(f'{path}: no records; correct the path or drop it.')
    if chosen is not None:
      records = Templated(records, chosen, seed)
    found.append(Source(os.path.basename(os.path.normpath(path)), records))
  return found


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
