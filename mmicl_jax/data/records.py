"""MIC records: JSON Lines with a prompt, its images and the answer.

    {"input_text": "image 0 is <image0>图. What is it?",
     "input_image": ["images/cat.png"], "output_text": "a cat"}

An image is a path (relative to the file's folder), base64 or a data URL; a
single one needs no list. `id`, `dataset`, `meta` and any other keys are kept.
Each error names the file and the line.
"""

import array
import base64
import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from mmicl_jax.context.text import MAX_IMAGES, collapse, too_many
from mmicl_jax.context.turns import Example, Turn, turn_from_example
from mmicl_jax.data import jsonl
from mmicl_jax.data.image_files import resolve
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.files import writing
from mmicl_jax.runtime.mirror import local_file

_OPTIONAL = ('id', 'dataset', 'meta')
_KNOWN = ('input_text', 'input_image', 'output_text', *_OPTIONAL)


@dataclasses.dataclass(frozen=True)
class Record:
  """One line of a MIC file.

  input_image: as in the file; in `images` the paths are joined to `root`.
  extra: the keys that have no field. where: 'FILE:LINE'.
  """

  input_text: str
  input_image: str | bytes | Sequence[str | bytes]
  output_text: str = ''
  id: str | int | None = None
  dataset: str | None = None
  meta: Any = None
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  root: str = ''
  where: str = ''

  @property
  def inputs(self) -> str:
    """The prompt, as in Example."""
    return self.input_text

  @property
  def targets(self) -> str:
    """The answer, as in Example."""
    return self.output_text

  @property
  def images(self) -> tuple[str | bytes, ...]:
    """The images in order, as `images.load_image` can open them."""
    images = _listed(self.input_image)
    return tuple(resolve(image, self.root) for image in images)

  @property
  def num_shots(self) -> int | None:
    """The number of demonstrations, if `meta.shots` tells it.

    It is a number, or the ids of the records that are shown.
    """
    shots = self.meta.get('shots') if isinstance(self.meta, Mapping) else None
    if isinstance(shots, list):
      return len(shots)
    whole = isinstance(shots, int) and not isinstance(shots, bool)
    return shots if whole else None

  @functools.cached_property
  def example(self) -> Example:
    """The record as an Example with one 图 for each image; made only once.

    Raises UserError, naming the line, if 图 and images do not match.
    """
    rest = {'images': self.images, 'name': self.where}
    try:
      return Example(collapse(self.input_text), self.output_text, **rest)
    except UserError:
      # Raise the error of the original text, which shows several 图 in a row.
      return Example(self.input_text, self.output_text, **rest)

  def to_json(self) -> str:
    """The record as a line of JSON, without the line's end.

    Raises UserError for NaN and infinities, which JSON does not have.
    """
    optional = {key: getattr(self, key) for key in _OPTIONAL}
    image = self.input_image
    if isinstance(image, (str, bytes)):
      image = _encoded(image)
    else:
      image = [_encoded(i) for i in image]
    value = {
      'input_text': self.input_text,
      'input_image': image,
      'output_text': self.output_text,
      **{k: v for k, v in optional.items() if v is not None},
      **self.extra,
    }
    try:
      return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
      raise UserError(
        f'{_at(self.where)}a record cannot be written ({error}): JSON has '
        'neither NaN nor infinities.'
      ) from error


def read_records(
  path: str | os.PathLike,
  data_dir: str | os.PathLike | None = None,
  *,
  need_answer: bool = True,
  on_error: Callable[[UserError], None] | None = None,
) -> Iterator[Record]:
  """Reads the records of a JSON Lines file in order; skips blank lines.

  data_dir: the folder of image paths; by default the file's folder. on_error:
  called with the error of a line that is no valid record, which is then
  skipped; without it the error is raised. Raises UserError if the file cannot
  be read.
  """
  root = _root(remote.address(path), data_dir)
  with jsonl.open_lines(path, once=True) as file:
    for number, _, line in jsonl.numbered_lines(file):
      where = f'{os.fspath(path)}:{number}'
      try:
        yield parse_record(line, where, root, need_answer=need_answer)
      except UserError as error:
        if on_error is None:
          raise
        on_error(error)


def write_records(path: str | os.PathLike, records: Iterable[Record]) -> int:
  """Writes records to a JSON Lines file; returns how many.

  Image bytes become base64. After an error `path` is as it was before.
  """
  count = 0
  with writing(path) as file:
    for record in records:
      file.write(record.to_json() + '\n')
      count += 1
  return count


class RecordIndex(Sequence):
  """Random access to the records of one file; what its kinds have in common.

  data_dir: the folder of image paths; by default the file's folder. Raises
  UserError if the file cannot be read.
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
      self.path = os.path.join(os.getcwd(), path)  # for other processes
    self.root = _root(self.path, data_dir)
    self._need_answer = need_answer

  def _parsed(self, line: bytes, number: int) -> Record:
    where = f'{self.path}:{number}'
    return parse_record(line, where, self.root, need_answer=self._need_answer)


class JsonlIndex(RecordIndex):
  """Random access to the records of a large JSON Lines file.

  It takes 16 bytes of memory for each record. Each access opens the file again,
  so an index may be pickled, forked and shared between threads. Raises
  UserError if the file cannot be read, or is a pipe, which can be read only
  once.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    need_answer: bool = True,
  ):
    super().__init__(path, data_dir, need_answer=need_answer)
    self._file = local_file(self.path)
    self._starts, self._lines = array.array('Q'), array.array('Q')
    with jsonl.open_lines(self.path) as file:
      for number, start, _ in jsonl.numbered_lines(file):
        self._starts.append(start)
        self._lines.append(number)

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    line = jsonl.read_line(self._file, self._starts[index])
    return self._parsed(line, self._lines[index])

  def __repr__(self) -> str:
    return f'JsonlIndex({self.path!r}, {len(self)} records)'


def parse_record(
  line: bytes, where: str = '', root: str = '', *, need_answer: bool = True
) -> Record:
  """Parses one line of a file; raises UserError that names `where`.

  root: the folder of image paths. need_answer: whether output_text must exist.
  """
  at = _at(where)
  try:
    value = jsonl.parse_line(line)
  except UserError as error:
    raise UserError(f'{at}{error}') from error
  if not isinstance(value, dict):
    raise UserError(
      f'{at}a JSON {type(value).__name__}, not an object: write '
      '{"input_text": ..., "input_image": [...], "output_text": ...}.'
    )
  record = Record(
    input_text=_text(value, 'input_text', at),
    input_image=_images(value, at),
    output_text=_text(value, 'output_text', at, required=need_answer),
    id=_optional(value, 'id', (str, int), at),
    dataset=_optional(value, 'dataset', (str,), at),
    meta=value.get('meta'),
    extra={k: v for k, v in value.items() if k not in _KNOWN},
    root=root,
    where=where,
  )
  count = len(record.example.images)
  if count > MAX_IMAGES:
    raise UserError(at + too_many(count))
  return record


def turn_from_record(record: Record) -> Turn:
  """Turns a record into a query or demonstration; images can be renumbered.

  Raises UserError, naming the line, if two images have the same name.
  """
  with _named(record):
    return turn_from_example(record.example)


def as_example(item: Record | Example, index: int) -> tuple[Example, str]:
  """Returns (an item of a source as an Example, its id).

  The id is the record's own, if it has one, or else `index`.
  """
  if isinstance(item, Record):
    return item.example, str(index if item.id is None else item.id)
  return item, str(index)


@contextlib.contextmanager
def _named(record: Record) -> Iterator[None]:
  try:
    yield
  except UserError as error:
    if not record.where or str(error).startswith(record.where):
      raise
    raise UserError(f'{record.where}: {error}') from error


def _root(path: str | os.PathLike, data_dir: str | os.PathLike | None) -> str:
  return os.fspath(data_dir) if data_dir else os.path.dirname(os.fspath(path))


def _at(where: str) -> str:
  return f'{where}: ' if where else ''


def _encoded(image: Any) -> str:
  if isinstance(image, bytes):
    return base64.b64encode(image).decode()
  if isinstance(image, (str, os.PathLike)):
    return os.fspath(image)
  raise UserError(
    f'A record holds {type(image).__name__} for an image: give a path or the '
    'bytes of an image file.'
  )


def _listed(image: Any) -> list[Any]:
  """The images as a list; '' is none, as in MIC's published files."""
  if isinstance(image, (str, bytes)):
    return [image] if image else []
  return list(image)


def _text(
  value: dict[str, Any], key: str, at: str, required: bool = True
) -> str:
  if key not in value and not required:
    return ''
  text = _required(value, key, at)
  if not isinstance(text, str):
    raise UserError(f'{at}"{key}" is {_kind(text)}, not a string.')
  return text


def _images(value: dict[str, Any], at: str) -> str | list[str]:
  image = _required(value, 'input_image', at)
  items = image if isinstance(image, list) else [image]
  for i, item in enumerate(items):
    if not isinstance(item, str) or (isinstance(image, list) and not item):
      raise UserError(
        f'{at}"input_image"[{i}] is {_kind(item)}: each image is a path or '
        'base64; no images is [].'
      )
  return image


def _required(value: dict[str, Any], key: str, at: str) -> Any:
  if key not in value:
    raise UserError(
      f'{at}no "{key}": a record needs "input_text", "input_image" ([] for '
      'none) and "output_text".'
    )
  return value[key]


def _optional(
  value: dict[str, Any], key: str, types: tuple[type, ...], at: str
) -> Any:
  item = value.get(key)
  if item is not None and (
    isinstance(item, bool) or not isinstance(item, types)
  ):
    kinds = 'a string or a whole number' if int in types else 'a string'
    raise UserError(f'{at}"{key}" is {_kind(item)}, not {kinds}.')
  return item


def _kind(item: Any) -> str:
  if item == '':
    return 'an empty string'
  return 'null' if item is None else f'a JSON {type(item).__name__}'
