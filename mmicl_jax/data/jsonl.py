"""JSON Lines: opening a file, its lines, and the value of a line, strictly.

What JSON lets pass in silence is refused: two equal keys, of which one would be
lost, numbers that JSON does not have, and halves of characters.
"""

import codecs
import json
import math
import os
from collections.abc import Iterator
from typing import IO, Any

from mmicl_jax.errors import UserError, explained

# How files begin that are no JSON Lines but are given as such.
_OTHERS = {
  b'\x1f\x8b': 'compressed by gzip: unpack it',
  b'BZh': 'compressed by bzip2: unpack it',
  b'\xfd7zXZ': 'compressed by xz: unpack it',
  b'\x28\xb5\x2f\xfd': 'compressed by zstd: unpack it',
  b'PK\x03\x04': 'a zip archive: unpack it',
  b'PAR1': 'a Parquet file: write it as JSON Lines',
  b'\xff\xfe': 'UTF-16: save it as UTF-8',
  b'\xfe\xff': 'UTF-16: save it as UTF-8',
}


def open_lines(path: str | os.PathLike, *, once: bool = False) -> IO[bytes]:
  """Opens a JSON Lines file, whose bytes its lines are.

  once: nobody will open it again, so that it may be a pipe. Raises UserError if
  it cannot be read, is compressed or of another kind, or is a pipe.
  """
  try:
    file = open(path, 'rb')
    head = file.peek(8)
  except OSError as error:
    remedy = 'name a JSON Lines file'
    raise explained(error, path, remedy, 'could not be read') from error
  for beginning, what in _OTHERS.items():
    if head.startswith(beginning):
      file.close()
      raise UserError(f'{os.fspath(path)} is {what}')
  if not once and not file.seekable():
    file.close()
    raise UserError(
      f'{os.fspath(path)} is a pipe, which can be read only once: write the '
      'records to a file first'
    )
  return file


def numbered_lines(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
  """Number, first byte and text of each line that is not blank."""
  start = 0
  for number, line in enumerate(file, 1):
    if line.strip() not in (b'', codecs.BOM_UTF8):
      yield number, start, line
    start += len(line)


def read_line(path: str | os.PathLike, start: int) -> bytes:
  """The line that begins at a byte. Raises UserError if it cannot be read."""
  try:
    with open(path, 'rb') as file:
      file.seek(start)
      return file.readline()
  except OSError as error:
    remedy = 'put the file back, which was there when it was opened first'
    raise explained(error, path, remedy, 'could not be read') from error


def parse_line(line: bytes) -> Any:
  """The value of a line. Raises UserError, without the place, for none."""
  if b'\0' in line:
    raise UserError(
      'the line holds NUL bytes: the file was cut off, or is not UTF-8; write '
      'it again.'
    )
  try:
    value = json.loads(
      line.rstrip().decode('utf-8-sig'),
      object_pairs_hook=_object,
      parse_float=_finite,
      parse_constant=_finite,
    )
    # Rare, so that sound lines are not written out to be looked at.
    if b'\\ud' in line.lower() and isinstance(value, dict):
      _check_characters(value)
  except UnicodeDecodeError as error:
    raise UserError(
      f'not UTF-8 (byte {error.start} of the line): save the file as UTF-8.'
    ) from error
  except json.JSONDecodeError as error:
    raise UserError(
      f'not JSON ({error.msg} at character {error.colno}): write one JSON '
      'object on each line.'
    ) from error
  except (ValueError, RecursionError) as error:
    raise UserError(
      f'not JSON ({error}): write one JSON object on each line.'
    ) from error
  return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """json would keep the last of equal keys and drop the others."""
  value = dict(pairs)
  if len(value) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(f'{json.dumps(twice)} stands twice: keep one of them.')
  return value


def _finite(text: str) -> float:
  """Numbers that JSON does not have, or that would not be written again."""
  number = float(text)
  if not math.isfinite(number):
    raise UserError(f'{text} is no number of JSON: use null or leave it out.')
  return number


def _check_characters(value: dict[str, Any]) -> None:
  """JSON can name half a character, which can be neither printed nor opened."""
  for key, item in value.items():
    try:
      json.dumps({key: item}, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
      raise UserError(
        f'{json.dumps(key)} holds half a character (a lone surrogate): '
        'repair the text.'
      ) from error
