"""Finds the demonstrations of a finished prompt and makes them Turns again.

`context.turns.assemble` joins turns to text; this file takes the text apart. It
only accepts a division from which assemble makes the very same prompt.
"""

import itertools
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from mmicl_jax.context.text import MENTION, divided, slotted, style_of
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

_USER, _BOT = 'User: ', 'Bot: '
_ASKED = re.compile(r'[?:] ')


class Unexplained(UserError):
  """A record that cannot be explained; reason: a few words, to count by."""

  def __init__(self, reason: str, message: str):
    super().__init__(message)
    self.reason = reason


@dataclass(frozen=True)
class FileAnswers:
  """The answers of a file's records, with slots: those by id, and each once."""

  by_id: Mapping[str | int, str] = field(default_factory=dict)
  each: Set[str] = frozenset()


def split_prompt(
  record: Record, answers: FileAnswers | None = None, zero_shot: bool = False
) -> Example:
  """The record as an Example that knows its turns.

  In chat form turns begin with 'User: '; in plain form a blank line ends each
  demonstration. There, its answer is that of the record which `meta.shots`
  names, or else what follows the words with which the query ends, too; if
  `meta.shots` names a record that is not in the file, whose form may be
  another one, this must be an answer of some record. Only where `meta.shots` is
  a number may it also be what follows the last '?' or ':'.

  answers: of the file. zero_shot: a record may also be a query alone. Raises
  Unexplained for a record without demonstrations or answer, and for one that
  cannot be divided.
  """
  answers = answers or FileAnswers()
  where = record.where or 'the record'
  inputs = record.example.inputs
  if not record.output_text.strip():
    raise Unexplained(
      'no answer', f'{where}: no answer to score, "output_text" is blank.'
    )
  chat = style_of(inputs) == 'chat'
  parts = divided(inputs, style_of(inputs))
  ids = shown_ids(record.meta)
  count = record.num_shots
  if count == 0 or (count is None and len(parts) == 1):
    if not zero_shot:
      raise Unexplained(
        'no demonstrations',
        f'{where}: no demonstrations in the prompt; build records with '
        '--shots, separate turns by a blank line, or give --zero_shot to '
        'change declarations and names alone.',
      )
    parts, count = [inputs], 0
  if count is not None and len(parts) != count + 1:
    raise Unexplained(
      'not divided',
      f'{where}: "meta" has {count} demonstrations, but the prompt has '
      f'{len(parts) - 1}; separate turns by a blank line, and have none inside '
      'a turn.',
    )
  try:
    texts = [slotted(part) for part in parts[:-1]]
    query, target = slotted(parts[-1], record.output_text)
    if chat:
      pairs = [_chat_pair(text, where) for text, _ in texts]
      query = query.removeprefix(_USER)
      target = target.removeprefix(_BOT)
    else:
      pairs = [
        _named_pair(text, query, i, answers, where)
        if ids
        else _plain_pair(text, query, count is not None, where)
        for (text, _), i in itertools.zip_longest(texts, ids)
      ]
    found = _assembled([*pairs, (query, target)], record, chat)
  except Unexplained:
    raise
  except UserError as error:
    raise _not_divided(where, str(error)) from error
  if (found.inputs, found.targets) != (inputs, record.output_text):
    raise _not_divided(where, 'its turns do not give the same text again')
  return found


def own_answer(record: Record) -> str:
  """A record's answer as its query alone would have it, with slots.

  Raises UserError if two images of the query have the same name.
  """
  inputs = record.example.inputs
  chat = style_of(inputs) == 'chat'
  query = divided(inputs, style_of(inputs))[-1]
  answer = record.output_text
  return slotted(query, answer.removeprefix(_BOT) if chat else answer)[1]


def shown_ids(meta: Any) -> list[Any]:
  """The ids of the records that a record shows, as `data build` notes them."""
  shots = meta.get('shots') if isinstance(meta, Mapping) else None
  if not isinstance(shots, list):
    return []
  return [i if isinstance(i, (str, int)) else None for i in shots]


def _assembled(
  pairs: list[tuple[str, str]], record: Record, chat: bool
) -> Example:
  images = iter(record.example.images)
  last = len(record.example.images)
  turns = []
  for text, answer in pairs:
    for mention in MENTION.findall(f'{text}\n{answer}'):
      if any(int(n) < last for n in re.findall('[0-9]+', mention)):
        raise UserError(f'{mention!r} is an image of another turn')
    own = [next(images) for _ in range(text.count('{image}'))]
    turns.append(Turn(text, own, answer))
  return assemble(
    turns[-1],
    turns[:-1],
    style='chat' if chat else 'plain',
    name=record.where,
  )


def _chat_pair(text: str, where: str) -> tuple[str, str]:
  text, bot, answer = text.removeprefix(_USER).rpartition(f'\n{_BOT}')
  if not bot or not answer.strip():
    raise _not_divided(where, f"a demonstration has no '{_BOT}' with an answer")
  return text, answer.removesuffix('\n')


def _named_pair(
  text: str, query: str, name: Any, answers: FileAnswers, where: str
) -> tuple[str, str]:
  """Cuts the text of a demonstration that is the record of this id."""
  answer = answers.by_id.get(name)
  if answer and text.endswith(f' {answer}'):
    return text[: -len(answer) - 1], answer
  pair = _plain_pair(text, query, False, where)
  if answer is not None or pair[1] not in answers.each:
    raise _not_divided(
      where,
      f'the answer of {name!r}, which it shows, is not in the file; give the '
      'whole file that was built',
    )
  return pair


def _plain_pair(
  text: str, query: str, marked: bool, where: str
) -> tuple[str, str]:
  """Cuts the text of a demonstration into question and answer."""
  query = query.rstrip()
  for start in (m.start() for m in re.finditer(r'\S+', query)):
    same = re.compile(rf'(?<!\S){re.escape(query[start:])} (?=\S)')
    if found := list(same.finditer(text)):
      end = found[-1].end()
      return text[: end - 1], text[end:]
  if marked and (found := list(_ASKED.finditer(text))):
    end = found[-1].end()
    return text[: end - 1], text[end:]
  raise _not_divided(
    where, f'where the answer begins in {text[-60:]!r} cannot be told'
  )


def _not_divided(where: str, why: str) -> Unexplained:
  return Unexplained(
    'not divided',
    f'{where}: cannot be divided into demonstrations and a query: {why}.',
  )
