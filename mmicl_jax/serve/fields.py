"""Reads the fields of a JSON object, and names what is wrong by its path."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmicl_jax.context.text import IMAGE
from mmicl_jax.serve.http_errors import bad_request
from mmicl_jax.serve.reference import fields_of
from mmicl_jax.serve.surrogates import clean

_RESERVED = re.compile(rf'{IMAGE}|<image[0-9]+>')


class Fields:
  """The fields of one object; null counts as absent.

  where: the object's own path, '' for the body. known: the names it may have;
  others are collected in `ignored`.
  """

  def __init__(self, value: Any, where: str, known: Sequence[str]):
    if not isinstance(value, Mapping):
      raise bad_request(
        f'{where or "The body"} is {kind_of(value)}: give an object.',
        where or None,
      )
    self._where, self._known = where, frozenset(known)
    self._values = {k: v for k, v in value.items() if v is not None}
    self.ignored = [self.path(k) for k in self._values if k not in self._known]

  def path(self, name: str) -> str:
    """The path of a field, as in messages[2].content."""
    return f'{self._where}.{name}' if self._where else name

  def get(self, name: str) -> Any:
    """The value as it is, None if absent."""
    assert name in self._known, f'{name} is missing in the reference'
    return self._values.get(name)

  def flag(self, name: str) -> bool:
    """A truth value; absent is false."""
    value = self.get(name)
    if value is None:
      return False
    if not isinstance(value, bool):
      raise self.wrong(name, 'true or false')
    return value

  def whole(
    self,
    name: str,
    least: int,
    most: int,
    default: int | None = None,
    bound: str = '',
  ) -> int | None:
    """A whole number of a range; 3.0 counts as one. bound: what `most` is."""
    value = self.get(name)
    if value is None:
      return default
    if isinstance(value, float) and value.is_integer():
      value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
      raise self.wrong(name, f'a whole number from {least} to {most}{bound}')
    if not least <= value <= most:
      raise self.wrong(name, f'a number from {least} to {most}{bound}')
    return value

  def number(self, name: str, least: float, most: float) -> float | None:
    """A number of a range; None if absent."""
    value = self.get(name)
    if value is None:
      return None
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise self.wrong(name, 'a number')
    if not least <= value <= most:  # also false for NaN
      raise self.wrong(name, f'a number from {least:g} to {most:g}')
    return float(value)

  def one_of(self, name: str, choices: Sequence[str]) -> str:
    """One of some texts; the first one if absent."""
    value = self.get(name)
    if value is None:
      return choices[0]
    if not isinstance(value, str) or value not in choices:
      raise self.wrong(name, f'one of {", ".join(choices)}')
    return value

  def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
    """At most `most` texts, none of them empty; one alone is a list of one.

    They are what a model says, so none may hold what is reserved for images.
    """
    value = self.get(name)
    if value is None:
      return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > most:
      raise self.wrong(name, f'a text, or a list of at most {most} texts')
    found = []
    for i, text in enumerate(listed):
      alone = isinstance(value, str)
      path = self.path(name if alone else f'{name}[{i}]')
      if not isinstance(text, str) or not 0 < len(text) <= longest:
        raise bad_request(
          f'{path}: give a text of 1 to {longest} characters.', path
        )
      found.append(spoken(text, path))
    return tuple(found)

  def wrong(self, name: str, wanted: str) -> Exception:
    """The HttpError for a field that is not what is wanted."""
    path, value = self.path(name), self._values.get(name)
    return bad_request(f'{path} is {kind_of(value)}: give {wanted}.', path)


def body_fields(value: Any, body: str) -> Fields:
  """The fields of a whole body; refuses those that mean nothing here."""
  table = fields_of(body)
  found = Fields(value, '', tuple(table))
  for name, field in table.items():
    given = found.get(name)
    if field.refused and given is not None and given not in field.harmless:
      reason = 'it means nothing for this model'
      if name == 'echo':
        reason = (
          'the encoder reads the prompt, so its tokens have no probabilities'
        )
      raise bad_request(
        f'{name} is not supported: {reason}; leave it out.',
        name,
        'unsupported_parameter',
      )
  return found


def unreserved(text: str, where: str, remedy: str) -> str:
  """The text, cleaned; raises HttpError if it holds 图 or `<imageK>`."""
  if found := _RESERVED.search(text):
    raise bad_request(
      f'{found[0]} is reserved for the places of images: {remedy}.', where
    )
  return clean(text)


def spoken(text: str, where: str) -> str:
  """A text that a model may say, cleaned; raises HttpError as unreserved."""
  return unreserved(text, where, 'no answer holds one, so leave it out')


def kind_of(value: Any) -> str:
  """A value for messages: short ones as they are, others by their type."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, int | float) and abs(value) < 1e30:
    return f'{value:g}' if isinstance(value, float) else str(value)
  if isinstance(value, str):
    return 'a text' if len(value) > 20 else repr(clean(value))
  names = {list: 'a list', dict: 'an object', type(None): 'absent'}
  return names.get(type(value), 'too large a number')
