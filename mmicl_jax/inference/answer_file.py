"""A file of records to a file of answers: in order, resumable, any size.

Answers are appended as they come, a window of records at a time, so that a run
of any length needs constant memory and an interrupted one goes on where it
stopped. Every record has one line in the output, bad ones included.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmicl_jax.context.turns import Turn
from mmicl_jax.data import records
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.progress import ProgressBar

if TYPE_CHECKING:
  from mmicl_jax.inference.predictor import Predictor

WINDOW = 8  # batches that are sorted by length together


@dataclasses.dataclass(frozen=True)
class InputLine:
  """One line of the input: a record, or what is wrong with it."""

  line: int
  record: records.Record | None
  problem: str = ''

  @property
  def id(self) -> str | int | None:
    return self.record.id if self.record else None


@dataclasses.dataclass(frozen=True)
class AnswerFile:
  """Answers for all records of `source`, appended to `target`.

  settings: whatever the answers depend on; their digest stands in every line,
  so that a run never continues another one's answers.
  """

  source: Path
  target: Path
  options: Options
  settings: dict[str, Any]
  data_dir: str | None = None
  shots: tuple[Turn, ...] = ()
  style: str = 'plain'
  skip_bad_records: bool = False

  @property
  def digest(self) -> str:
    text = json.dumps(self.settings, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

  def items(self) -> Iterator[InputLine]:
    """The input, line by line. Raises UserError if it cannot be read."""
    try:
      file = open(self.source, 'rb')
    except OSError as error:
      raise UserError(
        f'{self.source}: cannot read the records ({error.strerror}); name a '
        'JSON Lines file.'
      ) from error
    root = os.fspath(self.data_dir or self.source.parent)
    with file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        where = f'{self.source}:{number}'
        try:
          record = records.parse_record(line, where, root, need_answer=False)
        except UserError as error:
          yield InputLine(number, None, str(error))
        else:
          yield InputLine(number, record)

  def resume(self) -> int:
    """How many lines of the output stand and agree with the input.

    A torn last line is cut off. Raises UserError if the output is of other
    records or other settings, or its folder cannot be written.
    """
    next(self.items(), None)  # the input's errors first: nothing is written
    folder = self.target.absolute().parent
    try:
      folder.mkdir(parents=True, exist_ok=True)
      file = open(self.target, 'a+b')
    except OSError as error:
      raise UserError(
        f'{self.target}: cannot write the answers ({error.strerror}); choose '
        'another --output.'
      ) from error
    items, done, end = self.items(), 0, 0
    with file:
      file.seek(0)
      for number, line in enumerate(file, 1):
        if not line.endswith(b'\n'):
          break
        self._check(number, line, next(items, None))
        done, end = number, end + len(line)
      file.truncate(end)
    return done

  def _check(self, number: int, line: bytes, item: InputLine | None) -> None:
    where = f'{self.target}:{number}'
    remedy = 'choose another --output, or --overwrite it.'
    try:
      value = json.loads(line)
      found = value['line'], value.get('id'), value['settings']
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'{where}: not an answer of this program; {remedy}'
      ) from (error)
    if item is None or found[:2] != (item.line, item.id):
      raise UserError(
        f'{where}: not the answer to the record at that place in '
        f'{self.source}; {remedy}'
      )
    if found[2] != self.digest:
      raise UserError(
        f'{where}: written with other settings or another checkpoint; {remedy}'
      )

  def run(self, predictor: 'Predictor', done: int = 0) -> dict[str, int]:
    """Answers what is left after `done` lines; returns counts.

    Raises UserError at a bad record, when all before it are answered, unless
    skip_bad_records is set.
    """
    total = sum(1 for _ in self.items())
    summary = {'kept': done, 'answered': 0, 'bad': 0}
    windows = self._windows(done, WINDOW * predictor.engine.batch_size)
    with (
      concurrent.futures.ThreadPoolExecutor(4) as readers,
      concurrent.futures.ThreadPoolExecutor(1) as ahead,
      open(self.target, 'a', encoding='utf-8') as file,
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
        for line in self._answer(predictor, prepared, summary):
          file.write(line + '\n')
        file.flush()
        bar.step(done + summary['answered'] + summary['bad'])
        if summary['bad'] and not self.skip_bad_records:
          break
    if summary['bad'] and not self.skip_bad_records:
      problem = next(p for _, p in prepared if isinstance(p, str))
      raise UserError(problem)
    return summary

  def _windows(self, done: int, size: int) -> Iterator[Sequence[InputLine]]:
    window: list[InputLine] = []
    for i, item in enumerate(self.items()):
      if i < done:
        continue
      window.append(item)
      if len(window) == size:
        yield window
        window = []
    if window:
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
      value: dict[str, Any] = {'line': item.line, 'id': item.id}
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
      value['settings'] = self.digest
      yield json.dumps(value, ensure_ascii=False)
