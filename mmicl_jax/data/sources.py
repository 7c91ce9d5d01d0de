"""Opens record files, JSON Lines or ArrayRecord, as sequences of examples.

Both trainers open their data here, so that the same paths, templates and seed
give both the same examples in the same order.
"""

import bisect
import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain

from mmicl_jax.context import templates as forms
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.records import JsonlIndex, Record, parse_record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

ARRAY_RECORD = ('.array_record', '.arrayrecord')


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
) -> list[Source]:
  """Opens one source for each file, named after it.

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
    if not (remote.is_file(path) or os.path.exists(path)):
      raise UserError(
        f'the record file {path} does not exist: correct DATA or EVAL_DATA'
      )
    records: Any
    if path.endswith(ARRAY_RECORD):
      records = ArrayRecordIndex(path, data_dir, need_answer=need_answer)
    else:
      records = JsonlIndex(path, data_dir, need_answer=need_answer)
    if not len(records):
      raise UserError(f'{path}: no records; correct the path or drop it.')
    if chosen is not None:
      records = Templated(records, chosen, seed)
    found.append(Source(os.path.basename(path), records))
  return found


class ArrayRecordIndex(Sequence):
  """The records of an ArrayRecord file, each a JSON object as in JSON Lines.

  Raises UserError if the file is of another kind.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    need_answer: bool = True,
  ):
    self.path = remote.address(path)
    if not remote.is_remote(path):
      self.path = os.path.join(os.getcwd(), path)
    self.root = os.fspath(data_dir or os.path.dirname(self.path))
    self._need_answer = need_answer
    try:
      here = str(local_file(self.path))
      self._file: Any = grain.sources.ArrayRecordDataSource(here)
    except UserError:
      raise
    except Exception as error:  # its C++ reader may raise anything
      raise UserError(
        f'{self.path} is no ArrayRecord file ({str(error).splitlines()[0]}): '
        'write it again or give a .jsonl'
      ) from error

  def __len__(self) -> int:
    return len(self._file)

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    where = f'{self.path}:{index}'
    line = self._file[index]
    return parse_record(line, where, self.root, need_answer=self._need_answer)


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


class Joined(Sequence):
  """Several sources, one after the other."""

  def __init__(self, parts: Sequence[Source]):
    self._parts = list(parts)
    self._ends = list(itertools.accumulate(len(p.data) for p in parts))

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, i: SupportsIndex) -> Any:
    index = range(len(self))[i]
    part = bisect.bisect_right(self._ends, index)
    start = self._ends[part - 1] if part else 0
    return self._parts[part].data[index - start]
