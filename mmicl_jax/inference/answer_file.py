"""Answers a file of records into a file: in order, resumable, of any size.

Answers are appended as they come, one window of records after the other. So
memory does not grow with the file, and an interrupted run can go on where it
stopped. Every record, even a bad one, has a line in the output. A line holds
hashes of its record, of the settings and of the model, so that a run never
continues another run's answers.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmicl_jax.context.turns import Turn
from mmicl_jax.data import jsonl, records
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime.mirror import Mirror
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.runtime.show import json_text

if TYPE_CHECKING:
  from mmicl_jax.inference.predictor import Predictor

WINDOW = 8  # batches whose prompts are sorted by length together


@dataclasses.dataclass(frozen=True)
class InputLine:
  """One line of the input: a record, or a sentence on what is wrong with it."""

  line: int
  digest: str
  record: records.Record | None
  problem: str = ''

  @property
  def head(self) -> dict[str, Any]:
    """The first fields of the answer's line."""
    return {'line': self.line, 'id': self.record.id if self.record else None}


@dataclasses.dataclass(frozen=True)
class Kept:
  """The part of an existing output that is kept: its lines and bytes.

  models: the hash of each model that wrote them, and its first line.
  """

  lines: int = 0
  num_bytes: int = 0
  models: dict[str, int] = dataclasses.field(default_factory=dict)


class _OtherRun(UserError):
  """An answer of this program to another record, or with other settings."""


@dataclasses.dataclass(frozen=True)
class AnswerFile:
  """Writes answers to all records of `source` into `target`.

  settings: what the answers depend on besides records and model. former: the
  same settings in the format that version 0.1.0 first had, which knew a model
  only by its path; lines with their hash are continued, too. name: the source's
  in messages. overwrite: `target` stays as it is until all is answered; until
  then the answers are in a file beside it, where the same command goes on.
  block: so many records are always answered together, the same ones wherever a
  run went on, so that not even the last bit of a score depends on that. shard:
  (i, n) answers every n-th block, from block i on. remedy: what to do where
  other answers lie in the place.
  """

  source: Path
  target: Path
  options: Options
  settings: dict[str, Any]
  former: dict[str, Any] | None = None
  name: str = ''
  data_dir: str | None = None
  shots: tuple[Turn, ...] = ()
  style: str = 'plain'
  skip_bad_records: bool = False
  overwrite: bool = False
  block: int | None = None
  shard: tuple[int, int] = (0, 1)
  remedy: str = 'choose another --output, or --overwrite it.'
  folder: Mirror = dataclasses.field(default_factory=lambda: Mirror(os.curdir))

  @property
  def place(self) -> Path:
    """The file that answers are appended to."""
    if not self._beside:
      return self.target
    place = Path(os.path.realpath(self.target))
    return place.with_name(f'{place.name}.new')

  @property
  def settings_digest(self) -> str:
    """The hash of the settings, which each line has."""
    return _digest(self.settings)

  @property
  def _beside(self) -> bool:
    return self.overwrite and self.target.is_file()

  def items(self) -> Iterator[InputLine]:
    """Yields the lines of the input; raises UserError if it is unreadable."""
    name = self.name or os.fspath(self.source)
    root = self.data_dir or os.path.dirname(name)
    with jsonl.open_lines(self.source) as file:
      for number, _, line in jsonl.numbered_lines(file):
        where, digest = f'{name}:{number}', _digest(line.strip())
        try:
          record = records.parse_record(line, where, root, need_answer=False)
        except UserError as error:
          yield InputLine(number, digest, None, str(error))
        else:
          yield InputLine(number, digest, record)

  def check(self) -> Kept:
    """Checks input and output before the model is loaded; changes neither.

    Returns which part of the output is kept: all but a last line that was cut
    off. Raises UserError if there are no records, and if the output was not
    written by this program, or for other records or settings.
    """
    if next(self.items(), None) is None:
      raise UserError(f'{self.name or self.source}: no records in it.')
    if next(self._own(), None) is None:
      i, count = self.shard
      raise UserError(
        f'{self.name or self.source}: nothing is left for shard {i}/{count}'
        f', since {self.block} records are answered together: use fewer shards.'
      )
    # In this order: `place` depends on whether the target exists.
    for path in (self.target, self.place):
      self.folder.pull_file(path.name)
    if not self.place.is_file():
      return Kept()
    try:
      return self._kept()
    except _OtherRun:
      if not self._beside:
        raise
      return Kept()

  def run(self, predictor: 'Predictor', kept: Kept) -> dict[str, int]:
    """Answers the records after `kept`, which `check` returned; returns counts.

    The output is changed only once the first answers are there. Raises
    UserError if another model began the output, and if no record can be
    answered. Without skip_bad_records it raises UserError at a bad record, once
    all records before it are answered.
    """
    other = [
      n for digest, n in kept.models.items() if digest != predictor.digest
    ]
    if other and not self._beside:
      raise UserError(
        f'{self.place}:{other[0]}: answered by another model (other weights, '
        f'vocabulary or arithmetic); {self.remedy}'
      )
    try:
      try:
        summary = self._run(predictor, Kept() if other else kept)
      finally:
        if self.place.is_file():
          self.folder.push([self.place.name])
    except UserError as error:
      if self._beside and self.place.is_file():
        raise UserError(
          f'{error} {self.target} is as it was; the answers so far are in '
          f'{self.place}, where the same command goes on.'
        ) from error
      raise
    if self._beside:
      place, new = os.path.realpath(self.target), self.place.name
      shutil.copymode(place, self.place)
      os.replace(self.place, place)
      self.folder.push([self.target.name])
      self.folder.remove([new])
    return summary

  def _kept(self) -> Kept:
    lines, num_bytes, models = 0, 0, {}
    items = self._own()
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
      raise _OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.name or self.source}; {self.remedy}'
      )
    if record is None and self.former and settings == _digest(self.former):
      return None
    if record is not None and record != item.digest:
      raise _OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.name or self.source}, which was another one then; {self.remedy}'
      )
    if settings != self.settings_digest:
      raise _OtherRun(f'{where}: written with other settings; {self.remedy}')
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

  def _run(self, predictor: 'Predictor', kept: Kept) -> dict[str, int]:
    total = sum(1 for _ in self._own())
    summary = {'kept': kept.lines, 'answered': 0, 'bad': 0}
    end, done = kept.num_bytes, kept.lines
    windows = self._windows(done, WINDOW * predictor.engine.batch_size)
    with (
      concurrent.futures.ThreadPoolExecutor(4) as readers,
      concurrent.futures.ThreadPoolExecutor(1) as ahead,
      ProgressBar('answers', total, done) as bar,
    ):

      def prepare() -> tuple[int, list[tuple[InputLine, Any]]]:
        """The next window's prompts, made while the model answers this one."""
        there, window = next(windows, (0, ()))
        make = readers.map(lambda item: self._prompt(predictor, item), window)
        return there, list(zip(window, make, strict=True))

      coming = ahead.submit(prepare)
      while (window := coming.result())[1]:
        there, prepared = window
        coming = ahead.submit(prepare)
        lines = list(self._answer(predictor, prepared, summary))
        for line in lines[:there]:
          summary['bad' if 'error' in json.loads(line) else 'answered'] -= 1
        lines = lines[there:]
        end = _append(self.place, end, lines)
        self.folder.push_sometimes(self.place.name)
        bar.step(done + summary['answered'] + summary['bad'])
        if summary['bad'] and not self.skip_bad_records:
          break
    if summary['bad'] and not self.skip_bad_records:
      raise UserError(next(p for _, p in prepared if isinstance(p, str)))
    if summary['bad'] == total:
      raise UserError(
        f'none of the {total} records of {self.name or self.source} could be '
        f'answered; {self.place} says why.'
      )
    return summary

  def count(self) -> int:
    """The number of records in the whole input."""
    return sum(1 for _ in self.items())

  def _own(self) -> Iterator[InputLine]:
    """Yields the lines of the input that are this shard's."""
    i, count = self.shard
    for number, item in enumerate(self.items()):
      if self.block is None or number // self.block % count == i:
        yield item

  def _windows(
    self, done: int, size: int
  ) -> Iterator[tuple[int, Sequence[InputLine]]]:
    """Yields what is answered together, and how many answers of it there are.

    A block that was answered in part is answered again as a whole.
    """
    there = 0
    if self.block is not None:
      size, there = self.block, done % self.block
    items = itertools.islice(self._own(), done - there, None)
    while window := list(itertools.islice(items, size)):
      yield there, window
      there = 0

  def _prompt(self, predictor: 'Predictor', item: InputLine) -> Any:
    """The prompt, or a sentence on what is wrong with the record."""
    if item.record is None:
      return item.problem
    try:
      if self.shots:
        query: Any = records.turn_from_record(item.record)
      else:
        query = item.record.example
      return predictor.prompt(query, self.shots, style=self.style)
    except UserError as error:
      text, where = str(error), item.record.where
      return text if text.startswith(where) else f'{where}: {text}'

  def _answer(
    self,
    predictor: 'Predictor',
    prepared: Sequence[tuple[InputLine, Any]],
    summary: dict[str, int],
  ) -> Iterator[str]:
    """Yields a window's output lines, up to a bad one that is not skipped."""
    good = []
    for i, (_, prompt) in enumerate(prepared):
      if not isinstance(prompt, str):
        good.append(i)
      elif not self.skip_bad_records:
        prepared = prepared[:i]
        summary['bad'] += 1
        break
    rows = np.array([prepared[i][0].line for i in good], np.uint32)
    prompts = [prepared[i][1] for i in good]
    found = predictor.answers(prompts, self.options, rows)
    answers = dict(zip(good, found, strict=True))
    for i, (item, prompt) in enumerate(prepared):
      value = item.head
      if i in answers:
        summary['answered'] += 1
        best = answers[i]
        value |= {'text': best.text, 'score': best.score}
        if best.others:
          value['others'] = [
            {'text': other.text, 'score': other.score} for other in best.others
          ]
      else:
        summary['bad'] += 1
        value['error'] = prompt
      value['record'] = item.digest
      value['settings'] = self.settings_digest
      value['model'] = predictor.digest
      yield json_text(value)


def _append(place: Path, end: int, lines: Sequence[str]) -> int:
  """Writes lines after the first `end` bytes of a file; returns its length."""
  if not lines:
    return end
  data = ''.join(f'{line}\n' for line in lines).encode()
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, 'ab') as file:
      if place.is_file():  # not, for example, /dev/stdout
        file.truncate(end)
      file.write(data)
  except OSError as error:
    remedy = 'make room or choose another --output'
    raise explained(error, place, remedy) from error
  return end + len(data)


def _digest(value: Any) -> str:
  """A hash of bytes or of a JSON value: eight hexadecimal digits."""
  if not isinstance(value, bytes):
    value = json.dumps(value, sort_keys=True, default=str).encode()
  return hashlib.blake2b(value, digest_size=4).hexdigest()
