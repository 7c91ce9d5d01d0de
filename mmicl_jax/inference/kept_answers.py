"""What an earlier run has answered already, and whether it was this run."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.inference.input_lines import InputLine
from mmicl_jax.runtime.show import json_text


@dataclasses.dataclass(frozen=True)
class Kept:
  """The part of an existing output that is kept: its lines and bytes.

  models: the hash of each model that wrote them, and its first line.
  """

  lines: int = 0
  num_bytes: int = 0
  models: dict[str, int] = dataclasses.field(default_factory=dict)


class OtherRun(UserError):
  """An answer of this program to another record, or with other settings."""


@dataclasses.dataclass(frozen=True)
class Written:
  """A file of answers that is there. shown: the input's name in messages.

  settings, former: the hash of the settings, and in the format that version
  0.1.0 first had; former lines have no hash of their record. remedy: what to do
  where other answers lie in the place.
  """

  place: Path
  shown: str
  settings: str
  former: str | None
  remedy: str

  def kept(self, items: Iterator[InputLine]) -> Kept:
    """Which part of the file is kept: all but a last line that was cut off.

    items: what each line must be the answer to. Raises OtherRun if it is the
    answer of another run, and UserError if it is no answer of this program.
    """
    lines, num_bytes, models = 0, 0, {}
    with open(self.place, 'rb') as file:
      for number, line in enumerate(file, 1):
        item = next(items, None)
        if not line.endswith(b'\n'):
          self._check_torn(number, line, item)
          break
        if (model := self._check(number, line, item)) is not None:
          models.setdefault(model, number)
        lines, num_bytes = number, num_bytes + len(line)
    return Kept(lines, num_bytes, models)

  def _check(
    self, number: int, line: bytes, item: InputLine | None
  ) -> str | None:
    """The hash of the model in a line; None in lines of the former format."""
    where = f'{self.place}:{number}'
    try:
      value = json.loads(line)
      head = {'line': value['line'], 'id': value.get('id')}
      settings, record = value['settings'], value.get('record')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise self._not_ours(where) from error
    if item is None or head != item.head:
      raise OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.shown}; {self.remedy}'
      )
    if record is None and self.former and settings == self.former:
      return None
    if record is not None and record != item.digest:
      raise OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.shown}, which was another one then; {self.remedy}'
      )
    if settings != self.settings:
      raise OtherRun(f'{where}: written with other settings; {self.remedy}')
    return value.get('model')

  def _check_torn(
    self, number: int, line: bytes, item: InputLine | None
  ) -> None:
    """Raises unless a last line without an end is the beginning of our own."""
    begin = b'{"line": '
    if item is not None and (number > 1 or line.startswith(begin)):
      head = json_text(item.head)[:-1].encode()
      if line.startswith(head) or head.startswith(line):
        return
    raise self._not_ours(f'{self.place}:{number}')

  def _not_ours(self, where: str) -> UserError:
    return UserError(f'{where}: not an answer of this program; {self.remedy}')
