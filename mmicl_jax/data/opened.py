"""What a person may name for records: a file, shards, a built folder.

train.jsonl                         JSON Lines
train-*.array_record                ArrayRecord shards
cc3m/*.tar                          shards of webdataset: see tar_shards.py
cc3m/list.tsv, vg/captions.json     captions and paths: see pair_lists.py
tfds:coco_captions/2014#train       TensorFlow Datasets: see tfds_sets.py
built/vqav2                         all splits of a `mmicl data build`
built/vqav2/val                     one of its splits
"""

import bisect
import dataclasses
import glob
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from mmicl_jax.data import records
from mmicl_jax.data.pair_lists import JsonListIndex, TsvIndex, is_json_list
from mmicl_jax.data.pairs import Omitted
from mmicl_jax.data.records import JsonlIndex, Record, RecordIndex
from mmicl_jax.data.tar_shards import TarIndex
from mmicl_jax.data.tfds_sets import PREFIX, TfdsIndex
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

ARRAY_RECORD = ('.array_record', '.arrayrecord')
MANIFEST = 'manifest.json'
Pairs = TarIndex | TsvIndex | JsonListIndex


def built_splits(folder: str | os.PathLike) -> dict[str, list[str]]:
  """The record files of each split of a folder of `mmicl data build`.

  Raises UserError for a folder without a manifest, and for a build that is not
  complete.
  """
  path = os.path.join(folder, MANIFEST)
  try:
    found = json.loads(Path(path).read_text('utf-8'))
    splits = {
      split: [os.path.join(folder, name) for name in sorted(entry['files'])]
      for split, entry in found['splits'].items()
    }
    complete = found['complete']
  except OSError as error:
    raise UserError(
      f'{folder} has no {MANIFEST}: name a folder of mmicl data build, or a '
      'file of records'
    ) from error
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is no manifest of mmicl data build: build again'
    ) from error
  if not complete:
    raise UserError(f'{path}: the build is not complete: build again')
  return splits


def record_files(name: str | os.PathLike) -> list[str]:
  """The record files that a name stands for, in order.

  A name that stands for nothing else is a file's, whether it exists or not.
  """
  name = os.fspath(name)
  if remote.is_remote(name) or name.startswith(PREFIX):
    return [name]
  if os.path.isdir(name):
    return [path for paths in built_splits(name).values() for path in paths]
  if os.path.exists(name):
    return [name]
  folder, split = _built(name)
  if folder:
    return built_splits(folder)[split]
  return sorted(glob.glob(name)) or [name]


def _built(name: str) -> tuple[str, str]:
  """'built/iconqa/a/b' -> its folder and its split 'a/b', if there is one."""
  split, folder = '', name
  for _ in range(4):  # a split's name may hold slashes
    folder, last = os.path.split(folder)
    split = f'{last}/{split}' if split else last
    if os.path.isfile(os.path.join(folder, MANIFEST)):
      return (folder, split) if split in built_splits(folder) else ('', '')
  return '', ''


def open_index(
  path: str | os.PathLike,
  data_dir: str | os.PathLike | None = None,
  *,
  need_answer: bool = True,
) -> 'JsonlIndex | ArrayRecordIndex | Pairs | TfdsIndex':
  """Random access to the records of one file. Raises UserError."""
  kind = _kind(os.fspath(path))
  return kind(path, data_dir, need_answer=need_answer)


def read_file(
  path: str | os.PathLike,
  data_dir: str | os.PathLike | None = None,
  *,
  need_answer: bool = True,
  on_error: Callable[[UserError], None] | None = None,
) -> Iterator[Record]:
  """As records.read_records, of any kind of file."""
  if _kind(os.fspath(path)) is JsonlIndex:
    yield from records.read_records(
      path, data_dir, need_answer=need_answer, on_error=on_error
    )
    return
  index = open_index(path, data_dir, need_answer=need_answer)
  if isinstance(index, Pairs) and index.omitted.count and on_error is not None:
    on_error(UserError(f'{os.fspath(path)}:0: {index.omitted}'))
  for i in range(len(index)):
    try:
      yield index[i]
    except UserError as error:
      if on_error is None:
        raise
      on_error(error)


class ArrayRecordIndex(RecordIndex):
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
    super().__init__(path, data_dir, need_answer=need_answer)
    try:
      from array_record.python.array_record_data_source import (
        ArrayRecordDataSource,
      )
    except ImportError as error:
      raise UserError(
        f'{self.path} needs a package that is not installed: pip install '
        'array_record'
      ) from error
    try:
      here = str(local_file(self.path))
      self._file: Any = ArrayRecordDataSource([here])
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
    return self._parsed(self._file[index], index)


@dataclasses.dataclass(frozen=True)
class Chained(Sequence):
  """Several sequences of records, one after the other, under one name."""

  path: str
  parts: tuple[Sequence[Any], ...]
  ends: tuple[int, ...] = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    ends = tuple(itertools.accumulate(map(len, self.parts)))
    object.__setattr__(self, 'ends', ends)

  def __len__(self) -> int:
    return self.ends[-1] if self.ends else 0

  def __getitem__(self, i: SupportsIndex) -> Any:
    index = range(len(self))[i]
    part = bisect.bisect_right(self.ends, index)
    return self.parts[part][index - (self.ends[part - 1] if part else 0)]


def trained_files(name: str, split: str) -> list[str]:
  """As record_files, but of a built folder with several splits only one.

  Nobody means to train on all splits. Raises UserError if there is no such
  split.
  """
  if not os.path.isdir(name):
    return record_files(name)
  splits = built_splits(name)
  if len(splits) == 1:
    [split] = splits
  if split not in splits:
    raise UserError(
      f'{name} has no split {split}: name one of {", ".join(splits)}, as '
      f'{os.path.join(name, next(iter(splits), "train"))}'
    )
  return splits[split]


def source_name(name: str) -> str:
  """What a source is called: 'built/nlvr2/dev' -> 'nlvr2'.

  A pattern is called after its folder, anything else after its last part.
  """
  if name.startswith(PREFIX):
    return name.partition('#')[0].removeprefix(PREFIX)
  folder = '' if remote.is_remote(name) else _built(name)[0]
  parent, last = os.path.split(os.path.normpath(name))
  if not folder and glob.has_magic(last) and not os.path.exists(name):
    folder = parent
  return os.path.basename(folder) or last


def open_chain(
  name: str | Sequence[str],
  data_dir: str | os.PathLike | None = None,
  *,
  need_answer: bool = True,
) -> Chained:
  """Random access to all records that one name, or several, stand for."""
  names = [name] if isinstance(name, str) else list(name)
  files = [path for one in names for path in record_files(one)]
  parts = (
    open_index(path, data_dir, need_answer=need_answer) for path in files
  )
  return Chained(', '.join(names), tuple(parts))


def omissions(parts: Sequence[Any]) -> str:
  """What is left out of the files of a name, in one sentence; '' if nothing."""
  found = [x.omitted for x in parts if isinstance(x, Pairs) and x.omitted.count]
  if not found:
    return ''
  whole = Omitted(found[0].what)
  whole.count = sum(one.count for one in found)
  whole.first = found[0].first
  return str(whole)


def is_there(path: str) -> bool:
  """Whether one of `record_files` exists, as far as can be told."""
  if path.startswith(PREFIX):
    return True  # opening it tells more
  return remote.is_file(path) or os.path.exists(path)


def _kind(path: str) -> Any:
  if path.startswith(PREFIX):
    return TfdsIndex
  if path.endswith(ARRAY_RECORD):
    return ArrayRecordIndex
  if path.endswith('.tar'):
    return TarIndex
  if path.endswith('.tsv'):
    return TsvIndex
  return JsonListIndex if is_json_list(path) else JsonlIndex


def read_all(names: Sequence[str], data_dir: str | None) -> Iterator[Record]:
  """Reads the records of files, and of the files that other names stand for."""
  for name in names:
    for file in record_files(name):
      yield from read_file(file, data_dir)
