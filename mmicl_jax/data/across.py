"""What only several records, or the bytes of pictures, can show to be wrong.

Equal ids, equal records, demonstrations that are the query or show its picture,
answers that stand in their own prompts, pictures that two sets share.
"""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmicl_jax.context.text import IMAGE
from mmicl_jax.data.image_files import holds_bytes, read_image_file
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

_BUILT = re.compile(r'images/([0-9a-f]{32})\.[a-z]+$')
# Where demonstrations end: as context.turns.assemble joins them.
_PLAIN, _CHAT = re.compile('\n\n'), re.compile(r'\n(?=User: )')
# Warnings, and what each may come from.
IN_PROMPT = 'answer in the prompt'
EQUAL = 'equal records under other ids'
MEANT = {
  IN_PROMPT: 'the question or a demonstration may say it',
  EQUAL: 'annotators may have written the same twice',
}
_CHOICE = re.compile(r'(\bor|/)\s*$', re.IGNORECASE)


class Across:
  """Looks at record after record; remembers some bytes of each.

  contents: files are read, to be known by what they hold and not by where they
  lie; a built folder's are known by their names. pictures: all that were seen,
  as `picture_key` names them. warnings:
  how many records have what may be meant: the answer in the prompt, or what
  stands under another id, too.
  """

  def __init__(self, contents: bool = False):
    read = functools.lru_cache(1 << 16)(_file_key)
    self._file_key = read if contents else (lambda path: _named(path) or path)
    self.pictures: set[str] = set()
    self.warnings: dict[str, int] = {}
    self._ids: dict[str, str] = {}
    self._records: dict[bytes, str] = {}

  def problems(self, record: Record) -> list[str]:
    """One sentence for each thing that is wrong with this record."""
    keys = [picture_key(image, self._file_key) for image in record.images]
    self.pictures.update(filter(None, keys))
    found = [*self._twice(record, keys), *_demonstrations(record, keys)]
    if says_answer(record):
      if _leaks(record):
        found.append('The prompt ends with its own answer.')
      else:
        self._warn(IN_PROMPT)
    return found

  def _twice(self, record: Record, keys: list[str]) -> list[str]:
    where = _short(record.where)
    if record.id is not None:
      name = f'{record.dataset} {record.id}'
      first = self._ids.setdefault(name, where)
      if first != where:
        return [
          f'The id {record.id!r} is also that of {first}: ids are unique.'
        ]
    content = '\0'.join((record.inputs, record.targets, *keys))
    # A path may have bytes that are no UTF-8.
    data = content.encode('utf-8', 'surrogatepass')
    digest = hashlib.blake2b(data, digest_size=16).digest()
    first = self._records.setdefault(digest, where)
    if first == where:
      return []
    # Annotators write the same twice, and a set that numbers them has both.
    if record.id is not None:
      self._warn(EQUAL)
      return []
    return [f'The record equals that of {first}.']

  def _warn(self, what: str) -> None:
    self.warnings[what] = self.warnings.get(what, 0) + 1


def says_answer(record: Record) -> bool:
  """Whether the answer stands in the query, as whole words.

  Demonstrations that `meta.shots` tells of may have the same answer.
  """
  query = _turns(record.inputs, (record.num_shots or 0) + 1)[-1]
  return _says(query, _answer(record))


def picture_key(
  image: str | bytes, file_key: Callable[[str], str] | None = None
) -> str:
  """The beginning of SHA-256 of a picture's bytes; '' if it cannot be read.

  file_key: what files are known by instead.
  """
  if isinstance(image, str) and not holds_bytes(image):
    return (file_key or _file_key)(image)
  try:
    return _key(read_image_file(image)[0])
  except UserError:
    return ''


def _file_key(path: str) -> str:
  try:
    return _named(path) or _key(read_image_file(path)[0])
  except UserError:
    return ''


def _named(path: str) -> str:
  """The key of a picture of a built folder, which it is named by; else ''."""
  found = _BUILT.search(path.replace(os.sep, '/'))
  return found[1] if found else ''


def pictures_of(records: Iterable[Record]) -> set[str]:
  """The contents of all pictures, as `picture_key` names them."""
  keys = {picture_key(image) for r in records for image in r.images}
  return keys - {''}


def _key(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:32]


def _demonstrations(record: Record, keys: list[str]) -> list[str]:
  """Problems with the demonstrations that `meta.shots` names."""
  shots = _meta(record).get('shots')
  if not isinstance(shots, list) or not shots:
    return []
  problems = []
  if record.id in shots:
    problems.append('A demonstration is the query itself.')
  if len(set(map(str, shots))) < len(shots):
    problems.append('A demonstration stands twice.')
  turn_of: list[int] = []
  for turn, text in enumerate(_turns(record.example.inputs, len(shots) + 1)):
    turn_of += [turn] * text.count(IMAGE)
  first: dict[str, int] = {}
  for i, key in enumerate(keys):
    j = first.setdefault(key, i) if key else i
    if turn_of[i] != turn_of[j]:
      problems.append(
        f'image {j} and image {i} are the same picture, of two turns: a '
        "demonstration shows another turn's picture."
      )
  return problems


def _turns(inputs: str, count: int) -> list[str]:
  """The prompt's turns; all of it as one if they cannot be told apart."""
  if count == 1:
    return [inputs]
  for joint in (_CHAT, _PLAIN):
    parts = joint.split(inputs)
    if len(parts) == count:
      return parts
    # A question may hold blank lines; pictures are declared at its beginning.
    parts = re.split(rf'{joint.pattern}(?=[Ii]mage 0*\d+ is |<image)', inputs)
    if len(parts) == count:
      return parts
  return [inputs]


def _leaks(record: Record) -> bool:
  """Whether the form, and not the annotation, ends with the answer.

  Known only of built records, whose meta holds what the form was filled with.
  'True or False?' and 'yes/no' name choices, and are no leaks.
  """
  meta, answer = _meta(record), _answer(record)
  if not isinstance(meta.get('template'), int):
    return False
  end = record.inputs.rstrip(' \n.?!')
  if not end.endswith(answer):
    return False
  before = end[: -len(answer)]
  if before[-1:].isalnum() or _CHOICE.search(before):
    return False
  official = {k: v for k, v in meta.items() if k != 'answers'}
  return not any(_says(text, answer) for text in _texts(official))


def _texts(value: Any) -> list[str]:
  if isinstance(value, str):
    return [value]
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, list):
    return [text for item in value for text in _texts(item)]
  return []


def _says(text: str, answer: str) -> bool:
  return bool(answer) and bool(
    re.search(rf'(?<!\w){re.escape(answer)}(?!\w)', text, re.IGNORECASE)
  )


def _answer(record: Record) -> str:
  return record.targets.removeprefix('Bot: ').strip().rstrip('.')


def _meta(record: Record) -> Mapping[str, Any]:
  return record.meta if isinstance(record.meta, Mapping) else {}


def _short(where: str) -> str:
  """'/data/built/train.jsonl:3' -> 'train.jsonl:3'."""
  return os.path.basename(where)
