"""The lines of a file of records that is to be answered."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

from mmicl_jax.data import jsonl, records
from mmicl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class InputLine:
  """One line of the input: a record, or a sentence on what is wrong with it.

  line: its number. start: where in the file it begins, in bytes.
  """

  line: int
  digest: str
  record: records.Record | None
  problem: str = ''
  start: int = 0

  @property
  def head(self) -> dict[str, Any]:
    """The first fields of the answer's line."""
    return {'line': self.line, 'id': self.record.id if self.record else None}


def input_lines(
  source: str | os.PathLike, name: str, root: str
) -> Iterator[InputLine]:
  """Yields the lines of a file that are not blank.

  name: the file's in messages. root: the folder of image paths. Raises
  UserError if the file is unreadable.
  """
  with jsonl.open_lines(source) as file:
    for number, start, line in jsonl.numbered_lines(file):
      yield input_line(line, number, start, name, root)


def input_line(
  line: bytes, number: int, start: int, name: str, root: str
) -> InputLine:
  """The record of a line, or what is wrong with it."""
  digest = short_digest(line.strip())
  try:
    record = records.parse_record(
      line, f'{name}:{number}', root, need_answer=False
    )
  except UserError as error:
    return InputLine(number, digest, None, str(error), start)
  return InputLine(number, digest, record, start=start)


def short_digest(value: Any) -> str:
  """A hash of bytes or of a JSON value: eight hexadecimal digits."""
  if not isinstance(value, bytes):
    value = json.dumps(value, sort_keys=True, default=str).encode()
  return hashlib.blake2b(value, digest_size=4).hexdigest()
