"""Lists of captions whose pictures were downloaded: TSV, or a list in JSON.

    filepath<TAB>title                    paths beside the list, as open_clip's
    a red kite<TAB>http://...             CC3M's; CC12M's has the address first
    [{"image": "a.jpg", "caption": ...}]  as LAVIS has COCO, Visual Genome, SBU
    [{"id": 1, "regions": [{"phrase"...   Visual Genome's own regions

The picture of a line with an address, line n from 0 without a heading, is
<n // 10,000>/<n>.jpg with 5 and 9 digits: so img2dataset names files.
"""

import abc
import array
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from mmicl_jax.data import jsonl
from mmicl_jax.data.pairs import Omitted, pair_record
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

_IMAGE = ('filepath', 'image', 'image_path', 'path', 'file')
_CAPTION = ('title', 'caption', 'text')
_URL = ('url', 'image_url')
_SUFFIXES = ('', '.jpg', '.jpeg', '.png', '.webp')
_A_FOLDER = 10_000


class _PairList(Sequence):
  """Random access to the pairs of a list, as records.

  A pair whose picture was to be downloaded and is not there is counted in
  `omitted`; a path that the file names is opened when its turn comes. data_dir:
  where the pictures' paths start, by default the file's folder.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    need_answer: bool = True,
  ):
    remote.only_here(path, 'a list of captions')
    self.path = os.path.join(os.getcwd(), path)
    self.root = os.fspath(data_dir or os.path.dirname(self.path))
    self.omitted = Omitted('whose picture is not there')
    self._need_answer = need_answer
    self._open()

  @abc.abstractmethod
  def _open(self) -> None:
    """Finds the pairs of the file."""

  def _record(self, image: str, caption: Any, name: str, where: str) -> Record:
    return pair_record(
      image,
      caption,
      name,
      where,
      root=self.root,
      need_answer=self._need_answer,
    )


class TsvIndex(_PairList):
  """The pairs of a TSV file.

  Raises UserError if the file cannot be read, or if its columns are not known.
  """

  def _open(self) -> None:
    self._starts, self._numbers = array.array('Q'), array.array('Q')
    self._suffixes = array.array('B')
    with jsonl.open_lines(self.path) as file:
      lines = jsonl.numbered_lines(file)
      first = next(lines, None)
      if first is None:
        return
      self._image, self._caption, heading = _columns(first[2], self.path)
      rows = lines if heading else _with(first, lines)
      downloads = Downloads(self.root)
      for number, start, _ in rows:
        suffix = 0
        if self._image is None:
          suffix = downloads.suffix(number - 1 - heading)
          if not suffix:
            self.omitted.add(f'line {number} of {self.path}')
            continue
        self._starts.append(start)
        self._numbers.append(number)
        self._suffixes.append(suffix)
      self._heading = heading

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    line = jsonl.read_line(self.path, self._starts[index])
    number = self._numbers[index]
    where = f'{self.path}:{number}'
    fields = line.rstrip(b'\r\n').split(b'\t')
    if len(fields) <= max(self._caption, self._image or 0):
      raise UserError(
        f'{where}: only {len(fields)} columns: write all, with tabs between'
      )
    row = number - 1 - self._heading
    if self._image is None:
      image = download_name(row, _SUFFIXES[self._suffixes[index]])
    else:
      image = os.fsdecode(fields[self._image])
    return self._record(image, fields[self._caption], str(row), where)


class JsonListIndex(_PairList):
  """The pairs of a list in JSON; raises UserError for another layout."""

  def _open(self) -> None:
    try:
      items = json.loads(Path(self.path).read_bytes())
      self._pairs = list(self._read(items))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(
        f'{self.path} is no list of objects with "image" and "caption", or of '
        f"Visual Genome's regions ({type(error).__name__}: {error}): write "
        'it so, or as JSON Lines'
      ) from error

  def __len__(self) -> int:
    return len(self._pairs)

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    image, caption, name = self._pairs[index]
    return self._record(image, caption, name, f'{self.path}:{index}')

  def _read(
    self, items: list[dict[str, Any]]
  ) -> Iterator[tuple[str, str, str]]:
    genome = _genome_pictures(self.root) if _is_genome(items) else {}
    for i, item in enumerate(items):
      for region in item.get('regions', ()):
        number = region.get('image_id', item['id'])
        if number in genome:
          name = str(region.get('region_id', len(genome)))
          yield genome[number], str(region['phrase']), name
        else:
          self.omitted.add(f'picture {number} of {self.path}')
      if 'regions' not in item:
        captions = item['caption']
        if isinstance(captions, str):
          yield str(item['image']), captions, str(i)
        else:
          for j, caption in enumerate(captions):
            yield str(item['image']), str(caption), f'{i}/{j}'


class Downloads:
  """Which of the numbered pictures are there; lists a folder only once."""

  def __init__(self, root: str):
    self._root, self._folder = root, -1
    self._found: dict[str, int] = {}

  def suffix(self, number: int) -> int:
    """The place in _SUFFIXES of the picture's suffix; 0 if it is not there."""
    if number // _A_FOLDER != self._folder:
      self._folder = number // _A_FOLDER
      path = os.path.join(self._root, f'{self._folder:05d}')
      names = os.listdir(path) if os.path.isdir(path) else ()
      pairs = (os.path.splitext(name) for name in names)
      self._found = {
        stem: _SUFFIXES.index(suffix)
        for stem, suffix in pairs
        if suffix in _SUFFIXES
      }
    return self._found.get(f'{number:09d}', 0)


def download_name(number: int, suffix: str) -> str:
  return f'{number // _A_FOLDER:05d}/{number:09d}{suffix}'


def is_json_list(path: str) -> bool:
  """Whether a .json file is one list; otherwise it is JSON Lines."""
  if not path.endswith('.json'):
    return False
  try:
    with open(local_file(path), 'rb') as file:
      return file.read(64).lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'[')
  except OSError:
    return False


def _columns(line: bytes, path: str) -> tuple[int | None, int, bool]:
  """(column of the picture, of the caption, whether the line is a heading).

  The picture's is None if the file has addresses.
  """
  fields = [x.strip() for x in line.decode('utf-8', 'replace').split('\t')]
  names = [field.lower() for field in fields]
  caption = next((names.index(x) for x in _CAPTION if x in names), None)
  image = next((names.index(x) for x in _IMAGE if x in names), None)
  if caption is not None and (image is not None or set(_URL) & set(names)):
    return image, caption, True
  links = [i for i, x in enumerate(names) if x.startswith(('http:', 'https:'))]
  if links and len(fields) > 1:
    return None, 1 if links[0] == 0 else 0, False
  raise UserError(
    f'{path}: its first line names no columns, such as filepath and title, and '
    'is no caption with an address: write a heading'
  )


def _with(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
  yield first
  yield from rest


def _is_genome(items: list[dict[str, Any]]) -> bool:
  return bool(items) and 'regions' in items[0]


def _genome_pictures(root: str) -> dict[int, str]:
  """Visual Genome's pictures by number, in either of its two folders."""
  found = {}
  for folder in ('VG_100K', 'VG_100K_2'):
    path = os.path.join(root, folder)
    for name in os.listdir(path) if os.path.isdir(path) else ():
      stem, _ = os.path.splitext(name)
      if stem.isdigit():
        found[int(stem)] = f'{folder}/{name}'
  return found
