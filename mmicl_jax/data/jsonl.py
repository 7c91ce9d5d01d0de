"""Reads JSON Lines files strictly.

Python's json accepts some mistakes without a word. They are refused here: equal
keys, of which all but one would be lost, numbers that JSON does not have, and
halves of characters.
"""

import codecs
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.strict_json import parse_strictly

# The first bytes of files that people give instead of JSON Lines.
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
  """Opens a JSON Lines file for reading bytes.

  once: nobody will open it again, so it may be a pipe. Raises UserError if it
  cannot be read, is compressed or of another kind, or is a pipe without `once`.
  """
  try:
    file = open(local_file(path), 'rb')
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
  """Yields (number, position, bytes) of each line that is not blank."""
  start = 0
  for number, line in enumerate(file, 1):
    if line.strip() not in (b'', codecs.BOM_UTF8):
      yield number, start, line
    start += len(line)


def read_line(path: str | os.PathLike, start: int) -> bytes:
  """The line that begins at byte `start`; raises UserError if unreadable."""
  try:
    with open(path, 'rb') as file:
      file.seek(start)
      return file.readline()
  except OSError as error:
    remedy = 'put the file back, which was there when it was opened first'
    raise explained(error, path, remedy, 'could not be read') from error


def parse_line(line: bytes) -> Any:
  """The JSON value of a line; raises UserError, without the line's number."""
  if b'\0' in line:
    raise UserError(
      'the line holds NUL bytes: the file was cut off, or is not UTF-8; write '
      'it again.'
    )
  try:
    value = parse_strictly(line.rstrip())
    # The check writes the line out again; few lines need that.
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


def _check_characters(value: dict[str, Any]) -> None:
  """Refuses half a character, which JSON can hold but nobody can print."""
  for key, item in value.items():
    try:
      json.dumps({key: item}, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
      raise UserError(
        f'{json.dumps(key)} holds half a character (a lone surrogate): '
        'repair the text.'
      ) from error
