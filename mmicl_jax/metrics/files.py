"""Reads annotation files in their official formats, and checks their columns.

Every error is one sentence that names the file, and the line or the record.
"""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError, explained
from mmicl_jax.strict_json import parse_strictly

_REMEDY = 'give the folder with the official annotation files'


def matching_files(folder: Path, pattern: str) -> list[Path]:
  """All files whose names match a pattern, by name; at least one."""
  found = _found(folder, pattern)
  if not found:
    raise UserError(f'{folder} has no file {pattern}: {_REMEDY}')
  return found


def one_file(folder: Path, *patterns: str) -> Path:
  """The only file that matches one of the patterns; none or two is an error."""
  found = optional_file(folder, *patterns)
  if found is None:
    names = ' or '.join(patterns)
    raise UserError(f'{folder} has no file {names}: {_REMEDY}')
  return found


def optional_file(folder: Path, *patterns: str) -> Path | None:
  """The only file that matches one of the patterns, or None."""
  found = sorted({path for p in patterns for path in _found(folder, p)})
  if len(found) > 1:
    names = ', '.join(path.name for path in found)
    raise UserError(
      f'{folder} has several files {" or ".join(patterns)} ({names}): leave '
      'one of them there'
    )
  return found[0] if found else None


def _bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise explained(error, path, _REMEDY, 'could not be read') from error


def text_file(path: Path) -> str:
  """A text in UTF-8, its line ends as they are."""
  try:
    return _bytes(path).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(
      f'{path} is not UTF-8 (byte {error.start}): save it as UTF-8'
    ) from error


def text_lines(path: Path) -> list[tuple[int, str]]:
  """(number from 1, text) of each line that is not blank."""
  lines = text_file(path).replace('\r\n', '\n').split('\n')
  return [(n, line) for n, line in enumerate(lines, 1) if line.strip()]


def json_value(data: bytes, where: str) -> Any:
  """The value of JSON; raises UserError that begins with `where`."""
  try:
    return parse_strictly(data)
  except UserError as error:
    raise UserError(f'{where}: {error}') from error
  except UnicodeDecodeError as error:
    raise UserError(
      f'{where} is not UTF-8 (byte {error.start}): save it as UTF-8'
    ) from error
  except json.JSONDecodeError as error:
    place = f'line {error.lineno}, ' if b'\n' in data.strip() else ''
    raise UserError(
      f'{where} is not JSON ({error.msg} at {place}character {error.colno}): '
      'repair it'
    ) from error
  except (ValueError, RecursionError) as error:
    raise UserError(f'{where} is not JSON ({error}): repair it') from error


def json_file(path: Path, kind: type = dict) -> Any:
  """The JSON value of a file, which is a dict or a list."""
  value = json_value(_bytes(path), str(path))
  if not isinstance(value, kind):
    raise UserError(f'{path} should hold {_NAMES[kind]} of JSON: {_REMEDY}')
  return value


def json_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
  """('FILE, line N', object) of each line that is not blank."""
  rows = []
  for number, line in enumerate(_bytes(path).split(b'\n'), 1):
    if line.strip():
      where = f'{path}, line {number}'
      row = json_value(line, where)
      if not isinstance(row, dict):
        raise UserError(f'{where} is no JSON object: {_REMEDY}')
      rows.append((where, row))
  if not rows:
    raise UserError(f'{path} is empty: {_REMEDY}')
  return rows


def column_rows(
  path: Path, columns: Iterable[str], delimiter: str = ','
) -> list[tuple[str, dict[str, str]]]:
  """('FILE, line N', row by column name) of a CSV or TSV file with a heading.

  columns: those that must be there; others may be. Raises UserError for a
  missing or doubled column, and for a row with more or fewer cells.
  """
  csv.field_size_limit(sys.maxsize)  # a cell may hold an image
  reader = csv.reader(
    io.StringIO(text_file(path), newline=''), delimiter=delimiter, strict=True
  )
  rows: list[tuple[str, dict[str, str]]] = []
  header: list[str] | None = None
  start = 1
  try:
    for cells in reader:
      where, start = f'{path}, line {start}', reader.line_num + 1
      if header is None:
        header = cells
        _check_header(path, header, columns)
      elif cells:
        if len(cells) != len(header):
          raise UserError(
            f'{where} has {len(cells)} cells instead of {len(header)}: '
            'repair the row'
          )
        rows.append((where, dict(zip(header, cells, strict=True))))
  except csv.Error as error:
    raise UserError(
      f'{path}, line {reader.line_num} cannot be read ({error}): repair it'
    ) from error
  if not rows:
    raise UserError(f'{path} has no rows: {_REMEDY}')
  return rows


def _check_header(
  path: Path, header: Sequence[str], columns: Iterable[str]
) -> None:
  for name in columns:
    if name not in header:
      raise UserError(f'{path} has no column {name!r}: {_REMEDY}')
  for name in header:
    if header.count(name) > 1:
      raise UserError(f'{path} has the column {name!r} twice: keep one')


_NAMES = {
  dict: 'an object',
  list: 'an array',
  str: 'a text',
  int: 'a whole number',
  float: 'a number',
  bool: 'true or false',
}


def value_of(where: str, record: Any, name: str, *kinds: type) -> Any:
  """The value of a key; raises UserError if it is absent or of another kind.

  where: names the file and the record in the error. kinds: dict, list, str,
  int, float (which an int is, too) or bool; none of them: any value.
  """
  if not isinstance(record, dict):
    raise UserError(f'{where} is no JSON object: {_REMEDY}')
  if name not in record:
    raise UserError(f'{where} has no {name!r}: {_REMEDY}')
  value = record[name]
  allowed = (*kinds, int) if float in kinds else kinds
  right = type(value) in allowed if allowed else True
  if not right:
    wanted = ' or '.join(_NAMES[kind] for kind in kinds)
    raise UserError(f'{where}: {name!r} should be {wanted}: {_REMEDY}')
  return value


def id_of(where: str, record: Any, name: str) -> str:
  """An id as predictions spell it: the number 7 is '7'."""
  return str(value_of(where, record, name, str, int))


def texts_of(where: str, record: Any, name: str) -> list[str]:
  """A list of texts, at least one."""
  values = value_of(where, record, name, list)
  if not values or not all(isinstance(value, str) for value in values):
    raise UserError(f'{where}: {name!r} is no list of texts: {_REMEDY}')
  return values


def place_of(where: str, record: Any, name: str, count: int) -> int:
  """A place among so many: a whole number from 0 to count - 1."""
  place = value_of(where, record, name, int)
  if not 0 <= place < count:
    raise UserError(
      f'{where}: {name!r} is {place} instead of 0 to {count - 1}: {_REMEDY}'
    )
  return place


def text_of_each(where: str, records: Any, name: str) -> list[str]:
  """The text under a key of each record of a list; at least one."""
  if not isinstance(records, list) or not records:
    raise UserError(f'{where} has no {name!r}: {_REMEDY}')
  with contextlib.suppress(TypeError, KeyError):
    texts = [record[name] for record in records]
    if set(map(type, texts)) == {str}:
      return texts
  # One is faulty; this finds out which, and takes longer.
  return [value_of(where, record, name, str) for record in records]


def unique_ids(
  path: Path | str, ids: Iterable[str], name: str = 'id'
) -> list[str]:
  """The ids as a list; raises UserError if there are none, or two the same."""
  found: dict[str, None] = {}
  for one in ids:
    if one in found:
      raise UserError(f'{path} has the {name} {one!r} twice: {_REMEDY}')
    found[one] = None
  if not found:
    raise UserError(f'{path} has no items: {_REMEDY}')
  return list(found)


def _found(folder: Path, pattern: str) -> list[Path]:
  # As in a shell, a pattern is for no hidden file; copies from a Mac have some.
  return sorted(
    path
    for path in folder.glob(pattern)
    if path.is_file() and not path.name.startswith('.')
  )
