"""Shards in the form of webdataset: tar files of pictures with captions.

The files of a pair follow each other and differ only behind the first dot of
their names: 000000017.jpg, 000000017.txt, 000000017.json. So img2dataset writes
what it downloads.
"""

import array
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import SupportsIndex

from mmicl_jax.data.pairs import Omitted, pair_record
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

_PICTURES = ('jpg', 'jpeg', 'png', 'webp', 'gif', 'bmp')
_CAPTIONS = ('txt', 'caption', 'json')  # the first that a pair has is read
_BLOCK = 512
_FILE = b'0\0'  # the types of a header that a file's content follows
_TOLD_BEFORE = b'xgLK'  # headers that tell more of the next file


class TarIndex(Sequence):
  """Random access to the pairs of a tar file, as records.

  Only the headers are read when it is made, 34 bytes of memory are kept for a
  pair, and an access opens the file again, so an index may be pickled. A pair
  without a picture or without a caption is counted in `omitted`. Raises
  UserError if the file cannot be read or is no tar file.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    need_answer: bool = True,
  ):
    del data_dir  # the pictures are in the file
    self.path = remote.address(path)
    if not remote.is_remote(path):
      self.path = os.path.join(os.getcwd(), path)
    self.omitted = Omitted('without a picture or a caption')
    self._file = local_file(self.path)
    self._need_answer = need_answer
    self._places = array.array('Q')  # picture, its size, caption, its size
    self._kinds = array.array('B')  # of the caption
    try:
      with (
        open(self._file, 'rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
      ):
        self._read(data)
    except (OSError, ValueError) as error:  # ValueError: it is empty
      remedy = 'give a shard that is whole'
      raise explained(error, self.path, remedy, 'could not be read') from error

  def __len__(self) -> int:
    return len(self._kinds)

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    image, image_size, text, text_size = self._places[4 * index : 4 * index + 4]
    where = f'{self.path}:{index}'
    try:
      with open(self._file, 'rb') as file:
        file.seek(image - _BLOCK)
        name = _name(file.read(_BLOCK)).partition('.')[0]
        picture = file.read(image_size)
        file.seek(text)
        caption: str | bytes = file.read(text_size)
    except OSError as error:
      remedy = 'put the shard back, which was there when it was opened first'
      raise explained(error, self.path, remedy, 'could not be read') from error
    if _CAPTIONS[self._kinds[index]] == 'json':
      caption = _caption_of(caption, where)
    return pair_record(
      picture, caption, name, where, need_answer=self._need_answer
    )

  def _read(self, data: mmap.mmap) -> None:
    key, parts = '', {}
    for name, start, size in _members(data, self.path):
      stem, _, suffix = name.partition('.')
      if stem != key:
        self._add(key, parts)
        key, parts = stem, {}
      if start + size <= len(data):  # or else the file was cut off
        parts[suffix.lower()] = start, size
    self._add(key, parts)

  def _add(self, key: str, parts: dict[str, tuple[int, int]]) -> None:
    if not parts and not key:
      return
    picture = next((parts[s] for s in _PICTURES if s in parts), None)
    kind = next((i for i, s in enumerate(_CAPTIONS) if s in parts), None)
    if picture is None or kind is None or not picture[1]:
      self.omitted.add(f'{key} of {self.path}')
      return
    self._places.extend((*picture, *parts[_CAPTIONS[kind]]))
    self._kinds.append(kind)


def _members(data: mmap.mmap, path: str) -> Iterator[tuple[str, int, int]]:
  """(name, place, size) of each file; many times as fast as tarfile.

  A file that was cut off ends where it ends.
  """
  place = 0
  if len(data) < _BLOCK:
    raise _no_tar(path, place)
  while len(header := data[place : place + _BLOCK]) == _BLOCK and any(header):
    try:
      if header[257:262] not in (b'ustar', b'\0' * 5):
        raise ValueError
      size = int(header[124:136].rstrip(b'\0 ') or b'0', 8)
    except ValueError as error:
      raise _no_tar(path, place) from error
    place += _BLOCK
    if header[156] in _FILE:
      yield _name(header), place, size
    elif header[156] not in _TOLD_BEFORE:
      size = 0
    place += -(-size // _BLOCK) * _BLOCK


def _no_tar(path: str, place: int) -> UserError:
  return UserError(
    f'{path} is no tar file, or is damaged at byte {place}: download the shard '
    'again'
  )


def _name(header: bytes) -> str:
  """The file's name without its folders."""
  text = header[:100].rstrip(b'\0').decode('utf-8', 'replace')
  return text.rpartition('/')[2]


def _caption_of(data: bytes, where: str) -> str:
  try:
    found = json.loads(data)
    text = found.get('caption') or found.get('text') or ''
    if not isinstance(text, str):
      raise TypeError
  except (ValueError, TypeError, AttributeError) as error:
    raise UserError(
      f'{where}: its .json is not an object with the text "caption": drop the '
      'pair, or set SKIP_BAD_RECORDS'
    ) from error
  return text
