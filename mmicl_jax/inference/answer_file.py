"""A file of records to a file of answers: in order, resumable, any size.

Answers are appended as they come, a window of records at a time, so that a run
of any length needs constant memory and an interrupted one goes on where it
stopped. Every record has one line in the output, bad ones included. A line
carries digests of what decided it: of the record, of the settings, and of the
model. So a run never continues another one's answers.
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

WINDOW = 8  # batches that are sorted by length together
_ANOTHER = 'choose another --output, or --overwrite it.'


@dataclasses.dataclass(frozen=True)
class InputLine:
  """One line of the input: a record, or what is wrong with it."""

  line: int
  digest: str
  record: records.Record | None
  problem: str = ''

  @property
  def head(self) -> dict[str, Any]:
    """What the answer's line begins with."""
    return {'line': self.line, 'id': self.record.id if self.record else None}


@dataclasses.dataclass(frozen=True)
class Kept:
  """What of an output stands: complete lines, their bytes, whose they are.

  models: the models' digests, and the first line of each.
  """

  lines: int = 0
  num_bytes: int = 0
  models: dict[str, int] = dataclasses.field(default_factory=dict)


class _OtherRun(UserError):
  """An answer of this program, but of other records or settings."""


@dataclasses.dataclass(frozen=True)
class AnswerFile:
  """Answers for all records of `source`, in `target`.

  settings: what the answers depend on beside records and model. former: the
  same as version 0.1.0 before this format wrote them, which knew a model by its
  path alone; lines with their digest are continued, too. name: the source's in
  messages. overwrite: what `target` holds stays until all is answered; until
  then the answers stand in a file beside it, where the same command goes on.
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
  folder: Mirror = dataclasses.field(default_factory=lambda: Mirror(os.curdir))

  @property
  def place(self) -> Path:
    """Where answers are appended."""
    if not self._beside:
      return self.target
    place = Path(os.path.realpath(self.target))
    return place.with_name(f'{place.name}.new')

  @property
  def _beside(self) -> bool:
    return self.overwrite and self.target.is_file()

  def items(self) -> Iterator[InputLine]:
    """The input, line by line. Raises UserError if it cannot be read."""
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
    """Looks at input and output before the model is loaded, touching neither.

    Returns which lines of the output stand; a torn last one does not. Raises
    UserError if there are no records, if the output is not of this program, or
    of other records or settings, or cannot be written.
    """
    if next(self.items(), None) is None:
      raise UserError(f'{self.name or self.source}: no records in it.')
    for path in (self.target, self.place):  # whose name depends on the target
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
    """Answers what is left after what `check` returned; returns counts.

    Nothing that exists is changed before the first answers are there. Raises
    UserError at a bad record, when all before it are answered, unless
    skip_bad_records is set; if no record can be answered; and for an output
    that another model began.
    """
    other = [
      n for digest, n in kept.models.items() if digest != predictor.digest
    ]
    if other and not self._beside:
      raise UserError(
        f'{self.place}:{other[0]}: answered by another model (other weights, '
        f'vocabulary or arithmetic); {_ANOTHER}'
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
    items = self.items()
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
    """The digest of the model that a line carries; None in former ones."""
    where = f'{self.place}:{number}'
    try:
      value = json.loads(line)
      head = {'line': value['line'], 'id': value.get('id')}
      settings, record = value['settings'], value.get('record')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise _not_ours(where) from error
    if item is None or head != item.head:
      raise _OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.name or self.source}; {_ANOTHER}'
      )
    if record is None and self.former and settings == _digest(self.former):
      return None
    if record is not None and record != item.digest:
      raise _OtherRun(
        f'{where}: not the answer to the record at that place in '
        f'{self.name or self.source}, which was another one then; {_ANOTHER}'
      )
    if settings != _digest(self.settings):
      raise _OtherRun(f'{where}: written with other settings; {_ANOTHER}')
    return value.get('model')

  def _check_torn(
    self, number: int, line: bytes, item: InputLine | None
  ) -> None:
    """A last line without an end was cut off only if it began as ours do."""
    begin = b'{"line": '
    if item is not None and (number > 1 or line.startswith(begin)):
      head = json_text(item.head)[:-1].encode()
      if line.startswith(head) or head.startswith(line):
        return
    raise _not_ours(f'{self.place}:{number}')

  def _run(self, predictor: 'Predictor', kept: Kept) -> dict[str, int]:
    total = sum(1 for _ in self.items())
    summary = {'kept': kept.lines, 'answered': 0, 'bad': 0}
    end, done = kept.num_bytes, kept.lines
    windows = self._windows(done, WINDOW * predictor.engine.batch_size)
    with (
      concurrent.futures.ThreadPoolExecutor(4) as readers,
      concurrent.futures.ThreadPoolExecutor(1) as ahead,
      ProgressBar('answers', total, done) as bar,
    ):

      def prepare() -> list[tuple[InputLine, Any]]:
        """The next window's prompts, made while the model answers this one."""
        window = next(windows, ())
        make = readers.map(lambda item: self._prompt(predictor, item), window)
        return list(zip(window, make, strict=True))

      coming = ahead.submit(prepare)
      while prepared := coming.result():
        coming = ahead.submit(prepare)
        lines = list(self._answer(predictor, prepared, summary))
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

  def _windows(self, done: int, size: int) -> Iterator[Sequence[InputLine]]:
    items = itertools.islice(self.items(), done, None)
    while window := list(itertools.islice(items, size)):
      yield window

  def _prompt(self, predictor: 'Predictor', item: InputLine) -> Any:
    """The prompt, or the text of what is wrong."""
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
    """The output lines of a window, up to a bad record that is not skipped."""
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
      value['settings'] = _digest(self.settings)
      value['model'] = predictor.digest
      yield json_text(value)


def _append(place: Path, end: int, lines: Sequence[str]) -> int:
  """Writes lines behind the first `end` bytes of a file; its new length."""
  if not lines:
    return end
  data = ''.join(f'{line}\n' for line in lines).encode()
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, 'ab') as file:
      if place.is_file():  # /dev/stdout may be none
        file.truncate(end)
      file.write(data)
  except OSError as error:
    remedy = 'make room or choose another --output'
    raise explained(error, place, remedy) from error
  return end + len(data)


def _digest(value: Any) -> str:
  """Eight hexadecimal digits for bytes or a JSON value."""
  if not isinstance(value, bytes):
    value = json.dumps(value, sort_keys=True, default=str).encode()
  return hashlib.blake2b(value, digest_size=4).hexdigest()


def _not_ours(where: str) -> UserError:
  return UserError(f'{where}: not an answer of this program; {_ANOTHER}')
