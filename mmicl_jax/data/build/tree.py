"""The folder of official files: found by name, read safely, remembered.

Names of top folders differ between copies, so a file is looked for in the
folder, in its folders and in theirs. Every annotation file that was read goes
into the manifest with its sum.
"""

import codecs
import csv
import fnmatch
import functools
import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.data.build.items import Bad
from mmicl_jax.data.image_files import MAX_BYTES
from mmicl_jax.errors import UserError, explained

_DEPTH = 2  # folders above a file that copies put there
_CHUNK = 1 << 20
_HALF = re.compile(r'\\u[dD][89a-fA-F]')


class Tree:
  """The official files of one dataset, in `root`; nothing in it is changed.

  shape: what the tree should be, for errors. annotations: where annotation
  files lie, if not in root.
  """

  def __init__(
    self,
    root: str | os.PathLike,
    shape: str = '',
    annotations: str | os.PathLike | None = None,
  ):
    self.root = Path(root)
    self.annotations = self.root if annotations is None else Path(annotations)
    self.shape = shape
    self.sums: dict[str, str] = {}
    # Sets with pictures of COCO ask for its folders at every item.
    self._named: dict[tuple[str, ...], tuple[str, ...]] = {}
    if not self.root.exists():
      raise UserError(f'--raw {root} does not exist: name a folder; {shape}')

  def __getstate__(self) -> dict[str, Any]:
    return {
      'root': self.root,
      'shape': self.shape,
      'annotations': self.annotations,
      'sums': {},
      '_named': {},
    }

  @functools.cached_property
  def _folders(self) -> tuple[str, ...]:
    """The tree's folders down to _DEPTH, upper ones first, sorted."""
    found, level = [''], ['']
    for _ in range(_DEPTH):
      level = sorted(
        os.path.join(folder, entry.name)
        for folder in level
        for entry in os.scandir(self.root / folder)
        if entry.is_dir() and not entry.name.startswith('.')
      )
      found += level
    return tuple(found)

  def find(self, *names: str) -> str | None:
    """The first of these files or folders that is anywhere; its path.

    A name may have a *, for parts of it that differ between copies.
    """
    for name in names:
      for folder in self._folders:
        path = os.path.join(folder, name) if folder else name
        if '*' in name:
          found = sorted((self.root / folder).glob(name))
          if found:
            return found[0].relative_to(self.root).as_posix()
        elif any(_exists(top, path) for top in (self.root, self.annotations)):
          return path
    return None

  def need(self, *names: str) -> str:
    """As find. Raises UserError, naming the first, if none is there."""
    found = self.find(*names)
    if found is None:
      raise UserError(
        f'{self.root}: {names[0]} is not there; the tree should be: '
        f'{self.shape}'
      )
    return found

  def folders(self, *names: str) -> tuple[str, ...]:
    """All folders of these names, '' included if it is a name."""
    if names in self._named:
      return self._named[names]
    found = []
    for name in names:
      for folder in self._folders:
        path = os.path.join(folder, name) if folder and name else folder or name
        if (self.root / path).is_dir() and path not in found:
          found.append(path)
    return self._named.setdefault(names, tuple(found))

  def below(self, folder: str, pattern: str) -> list[str]:
    """All files of such a name in a folder, at any depth, sorted.

    Links are followed: large parts of a tree often lie on another disk.
    """
    found, seen = [], set()
    top = os.fspath(self.root / folder)
    for place, folders, names in os.walk(top, followlinks=True):
      real = os.path.realpath(place)
      if real in seen:  # a link to a folder above it would never end
        folders.clear()
        continue
      seen.add(real)
      folders.sort()
      found += [
        os.path.relpath(os.path.join(place, name), self.root)
        for name in fnmatch.filter(names, pattern)
      ]
    return sorted(found)

  def picture(self, folders: Sequence[str], name: str) -> str:
    """The path of a file in the first of the folders that has it.

    In the first folder if none has. Raises Bad for a name that is absolute or
    climbs out of the tree.
    """
    check_inside(name)
    for folder in folders:
      path = os.path.join(folder, name)
      if self.has(path):
        return path
    return os.path.join(folders[0] if folders else '', name)

  def has(self, path: str) -> bool:
    """Whether there is such a file; also asked of names that none can have."""
    return _exists(self.root, path)

  def annotation(self, path: str) -> bytes:
    """An annotation file, whose sum is remembered. Raises UserError."""
    try:
      data = (self.annotations / path).read_bytes()
    except OSError as error:
      raise explained(
        error, self.annotations / path, 'make it readable', 'could not be read'
      ) from error
    self.sums[path] = hashlib.sha256(data).hexdigest()
    return data

  def text(self, path: str) -> str:
    """An annotation file in UTF-8. Raises UserError naming the byte."""
    data = self.annotation(path).removeprefix(codecs.BOM_UTF8)
    try:
      return data.decode()
    except UnicodeDecodeError as error:
      raise UserError(
        f'{path}: byte {error.start} is not UTF-8: download the file again'
      ) from error

  def json(self, path: str) -> Any:
    """An annotation file. Raises UserError naming line and column."""
    text = self.text(path)
    try:
      return _parsed(text)
    except (ValueError, RecursionError) as error:
      raise UserError(
        f'{path}: not JSON ({error}): download the file again'
      ) from error

  def listed(self, path: str, *keys: str) -> Iterator[tuple[str, Any]]:
    """The rows of a JSON list, or of the list under keys, with their places.

    Raises UserError if the file has another layout.
    """
    value = self.json(path)
    for key in keys:
      if not isinstance(value, dict) or key not in value:
        raise self.layout(path, f'it has no "{key}"')
      value = value[key]
    if not isinstance(value, list):
      where = f'"{".".join(keys)}"' if keys else 'it'
      raise self.layout(path, f'{where} is no list')
    return iter([(f'{path}[{i}]', row) for i, row in enumerate(value)])

  def mapped(self, path: str, *keys: str) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file has another layout."""
    value = self.json(path)
    for key in keys:
      value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
      raise self.layout(path, 'it is no object')
    return value

  def lines(self, path: str) -> Iterator[tuple[str, Any]]:
    """The objects of a JSON Lines file; Bad where a line cannot be read."""
    data = self.annotation(path).removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(data.splitlines(), 1):
      if not line.strip():
        continue
      try:
        value: Any = _parsed(line.decode())
      except (ValueError, RecursionError):
        value = Bad('bad_line')
      yield f'{path}:{number}', value

  def table(
    self, path: str, *columns: str, delimiter: str = ','
  ) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV with a header that has these columns.

    Values are text, also 'NA' and 'None'. Raises UserError for another header.
    """
    try:
      csv.field_size_limit(1 << 30)
      reader = csv.DictReader(
        io.StringIO(self.text(path), newline=''),
        delimiter=delimiter,
        restval=None,
      )
      header = reader.fieldnames or []
      if missing := [name for name in columns if name not in header]:
        raise self.layout(path, f'its header has no column {missing[0]}')
      for row in reader:
        row.pop(None, None)  # cells beyond the header
        yield f'{path}:{reader.line_num}', row
    except csv.Error as error:
      raise self.layout(path, str(error)) from error

  def layout(self, path: str, problem: str) -> UserError:
    """An error: the file is not what its makers publish."""
    return UserError(
      f'{path}: not the official layout ({problem}); the tree should be: '
      f'{self.shape}'
    )

  def read(self, path: str) -> bytes:
    """The bytes of a picture or video. Raises Bad."""
    archive, bang, member = path.partition('!')
    if bang:
      check_inside(member)
      data = _member(self.root / archive, member)
    else:
      try:
        place = self.file(path)
        if place.stat().st_size > MAX_BYTES:
          raise Bad('too_large')
        data = place.read_bytes()
      except (OSError, ValueError) as error:
        raise Bad('missing_file') from error
    if not data:
      raise Bad('empty_file')
    return data

  def members(self, archive: str) -> frozenset[str]:
    """The names in a zip; none if it cannot be read."""
    try:
      with zipfile.ZipFile(self.root / archive) as files:
        return frozenset(files.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
      return frozenset()

  def file(self, path: str) -> Path:
    """Where a file of the tree lies. Raises Bad outside it."""
    check_inside(path)
    place = self.root / path
    if not os.path.isfile(place):  # false, too, for names that are too long
      raise Bad('missing_file')
    if not place.stat().st_size:
      raise Bad('empty_file')
    return place


@functools.lru_cache(4)
def _archive(path: Path) -> zipfile.ZipFile:
  """An open zip; the list of a big one takes long to be read."""
  return zipfile.ZipFile(path)


def _member(archive: Path, name: str) -> bytes:
  """The bytes of a zip's member. Raises Bad."""
  try:
    found = _archive(archive)
    if found.getinfo(name).file_size > MAX_BYTES:
      raise Bad('too_large')
    return found.read(name)
  except (OSError, KeyError, ValueError) as error:
    raise Bad('missing_file') from error
  except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:
    raise Bad('broken_image') from error  # locked, cut or damaged


def _exists(folder: Path, path: str) -> bool:
  return os.path.exists(os.path.join(folder, path))


def _parsed(text: str) -> Any:
  """JSON's value of a text, with U+FFFD for each half of a character.

  Escapes can say such halves ('\\ud83d'), but no UTF-8 file can hold them. NaN
  and infinities, which JSON does not have, are null.
  """
  value = json.loads(text, parse_constant=lambda name: None)
  return _mended(value) if _HALF.search(text) else value


def _mended(value: Any) -> Any:
  if isinstance(value, str):
    return value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
  if isinstance(value, list):
    return [_mended(x) for x in value]
  if isinstance(value, dict):
    return {_mended(k): _mended(x) for k, x in value.items()}
  return value


def check_inside(path: str) -> None:
  """Raises Bad for a path that is absolute or climbs out of the tree."""
  parts = path.replace('\\', '/').split('/')
  if '\0' in path or path.startswith(('/', '\\')) or path[1:2] == ':':
    raise Bad('outside_raw')
  depth = 0
  for part in parts:
    depth += {'..': -1, '.': 0, '': 0}.get(part, 1)
    if depth < 0:
      raise Bad('outside_raw')


def sum_of(path: Path) -> str:
  """SHA-256 of a file, in hexadecimal digits."""
  found = hashlib.sha256()
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      found.update(chunk)
  return found.hexdigest()
