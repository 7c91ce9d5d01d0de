"""Rows of annotation files, read with care: a bad one is only skipped."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mmicl_jax.data.build.items import Bad, Skip, SourceItem


def each(
  rows: Iterable[tuple[str, Any]],
  make: Callable[[Any], SourceItem | Iterable[SourceItem]],
  name: Callable[[Any], Any],
) -> Iterator[SourceItem | Skip]:
  """Items of the rows of an annotation file, in order.

  rows: where each stands ('train.json[3]') and its value; a Bad in the place of
  the value is a line that could not be read. make: raises Bad. name: the
  official id of a row; a row without a usable one is named by its place, and
  the second one with an id is a duplicate.
  """
  seen: set[str] = set()
  for where, row in rows:
    source = where
    try:
      if isinstance(row, Bad):
        raise row
      source = ident(name(row))
      if source in seen:
        yield Skip(source, 'duplicate_id')
        continue
      seen.add(source)
      made = make(row)
      yield from ([made] if isinstance(made, SourceItem) else list(made))
    except Bad as error:
      yield Skip(source, error.reason)


def ident(value: Any) -> str:
  """An official id as text. Raises Bad if it is none."""
  if isinstance(value, bool) or not isinstance(value, (str, int)):
    raise Bad('missing_field')
  text = str(value)
  if not text.strip():
    raise Bad('missing_field')
  return text


def field(row: Any, name: str, kind: type | tuple[type, ...] = str) -> Any:
  """A field's value. Raises Bad if it is absent, null or of another type."""
  if not isinstance(row, Mapping) or name not in row:
    raise Bad('missing_field')
  value = row[name]
  boolean = isinstance(value, bool) and kind is not bool
  if boolean or not isinstance(value, kind):
    raise Bad('missing_field')
  return value


def words(row: Any, name: str) -> str:
  """A text that is not blank. Raises Bad."""
  text = field(row, name)
  if not text.strip():
    raise Bad('empty_text')
  return text


def answered(row: Any, name: str, kind: type | tuple[type, ...] = str) -> Any:
  """As field, of what is answered: it may be absent or blank. Raises Bad."""
  if isinstance(row, Mapping) and name not in row:
    raise Bad('no_answer')
  value = field(row, name, kind)
  if isinstance(value, str) and not value.strip():
    raise Bad('no_answer')
  return value


def texts(row: Any, name: str) -> tuple[str, ...]:
  """A list of texts, blank ones included. Raises Bad."""
  values = field(row, name, list)
  if not all(isinstance(value, str) for value in values):
    raise Bad('missing_field')
  return tuple(values)
