"""Answers a file of records into a file: in order, resumable, of any size.

Answers are appended as they come, one window of records after the other. So
memory does not grow with the file, and an interrupted run can go on where it
stopped. Every record, even a bad one, has a line in the output. A line holds
hashes of its record, of the settings and of the model, so that a run never
continues another run's answers.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmicl_jax.context.turns import Turn
from mmicl_jax.data import records
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError, explained
from mmicl_jax.inference.input_lines import (
  InputLine,
  input_lines,
  short_digest,
)
from mmicl_jax.inference.kept_answers import Kept, OtherRun, Written
from mmicl_jax.runtime.mirror import Mirror
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.runtime.show import json_text

if TYPE_CHECKING:
  from mmicl_jax.inference.predictor import Predictor

WINDOW = 8  # batches whose prompts are sorted by length together


@dataclasses.dataclass(frozen=True)
class AnsweredWindow:
  """What came of the records that were answered together.

  lines: of the output; `there` of them are in it already. problem: what is
  wrong with the record after them, at which the run ends. model: the hash of
  the one that answered.
  """

  there: int
  lines: Sequence[str]
  problem: str
  model: str


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
    return short_digest(self.settings)

  @property
  def _beside(self) -> bool:
    return self.overwrite and self.target.is_file()

  def items(self) -> Iterator[InputLine]:
    """The lines of the input; raises UserError if it is unreadable."""
    return input_lines(self.source, self.shown, self.root)

  @property
  def shown(self) -> str:
    """The name of the input in messages."""
    return self.name or os.fspath(self.source)

  @property
  def root(self) -> str:
    """The folder of image paths."""
    return self.data_dir or os.path.dirname(self.shown)

  def check(self) -> Kept:
    """Checks input and output before the model is loaded; changes neither.

    Returns which part of the output is kept: all but a last line that was cut
    off. Raises UserError if there are no records, and if the output was not
    written by this program, or for other records or settings.
    """
    if next(self.items(), None) is None:
      raise UserError(f'{self.shown}: no records in it.')
    if next(self._own(), None) is None:
      i, count = self.shard
      raise UserError(
        f'{self.shown}: nothing is left for shard {i}/{count}'
        f', since {self.block} records are answered together: use fewer shards.'
      )
    # In this order: `place` depends on whether the target exists.
    for path in (self.target, self.place):
      self.folder.pull_file(path.name)
    if not self.place.is_file():
      return Kept()
    written = Written(
      self.place,
      self.shown,
      self.settings_digest,
      short_digest(self.former) if self.former else None,
      self.remedy,
    )
    try:
      return written.kept(self._own())
    except OtherRun:
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
    return self._complete(
      predictor.digest, lambda kept: self._answered(predictor, kept), kept
    )

  def run_elsewhere(
    self, answered: Callable[[Kept], Iterator[AnsweredWindow]], kept: Kept
  ) -> dict[str, int]:
    """As `run`, but other processes answer.

    answered: yields, in order, what comes after the part that is kept.
    """
    coming = answered(kept)
    first = next(coming, None)
    model = first.model if first is not None else None

    def after(part: Kept) -> Iterator[AnsweredWindow]:
      if part is not kept:
        return answered(part)
      return itertools.chain(() if first is None else (first,), coming)

    return self._complete(model, after, kept)

  def _complete(
    self,
    model: str | None,
    answered: Callable[[Kept], Iterator[AnsweredWindow]],
    kept: Kept,
  ) -> dict[str, int]:
    """Writes what is answered after `kept`; model: None if nothing is."""
    other = [n for m, n in kept.models.items() if m != model]
    if other and not self._beside and model is not None:
      raise UserError(
        f'{self.place}:{other[0]}: answered by another model (other weights, '
        f'vocabulary or arithmetic); {self.remedy}'
      )
    if other and model is not None:
      kept = Kept()
    try:
      try:
        summary = self._run(answered(kept), kept)
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

  def _run(
    self, answered: Iterator[AnsweredWindow], kept: Kept
  ) -> dict[str, int]:
    total = sum(1 for _ in self._own())
    summary = {'kept': kept.lines, 'answered': 0, 'bad': 0}
    end, problem = kept.num_bytes, ''
    with ProgressBar('answers', total, kept.lines) as bar:
      for window in answered:
        lines = window.lines[window.there :]
        bad = sum(_is_error(line) for line in lines)
        summary['bad'] += bad
        summary['answered'] += len(lines) - bad
        end = _append(self.place, end, lines)
        self.folder.push_sometimes(self.place.name)
        bar.step(kept.lines + summary['answered'] + summary['bad'])
        if problem := window.problem:
          break
    if problem:
      raise UserError(problem)
    if summary['bad'] == total:
      raise UserError(
        f'none of the {total} records of {self.shown} could be '
        f'answered; {self.place} says why.'
      )
    return summary

  def _answered(
    self, predictor: 'Predictor', kept: Kept
  ) -> Iterator[AnsweredWindow]:
    """Yields what this process's model answers."""
    windows = self.windows(kept.lines, WINDOW * predictor.engine.batch_size)
    with (
      concurrent.futures.ThreadPoolExecutor(4) as readers,
      concurrent.futures.ThreadPoolExecutor(1) as ahead,
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
        yield self._finished(predictor, there, prepared)

  def answered_alone(
    self, predictor: 'Predictor', there: int, window: Sequence[InputLine]
  ) -> AnsweredWindow:
    """What comes of one window; for processes that are handed windows."""
    with concurrent.futures.ThreadPoolExecutor(4) as readers:
      make = readers.map(lambda item: self._prompt(predictor, item), window)
      prepared = list(zip(window, make, strict=True))
    return self._finished(predictor, there, prepared)

  def _finished(
    self,
    predictor: 'Predictor',
    there: int,
    prepared: Sequence[tuple[InputLine, Any]],
  ) -> AnsweredWindow:
    """Answers a window up to a bad record that is not skipped."""
    problem = ''
    if not self.skip_bad_records:
      bad = [i for i, (_, p) in enumerate(prepared) if isinstance(p, str)]
      if bad:
        problem = prepared[bad[0]][1]
        prepared = prepared[: bad[0]]
    lines = list(self._answer(predictor, prepared))
    return AnsweredWindow(there, lines, problem, predictor.digest)

  def count(self) -> int:
    """The number of records in the whole input."""
    return sum(1 for _ in self.items())

  def _own(self) -> Iterator[InputLine]:
    """Yields the lines of the input that are this shard's."""
    i, count = self.shard
    for number, item in enumerate(self.items()):
      if self.block is None or number // self.block % count == i:
        yield item

  def windows(
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
    self, predictor: 'Predictor', prepared: Sequence[tuple[InputLine, Any]]
  ) -> Iterator[str]:
    """Yields the output lines of a window."""
    good = [i for i, (_, p) in enumerate(prepared) if not isinstance(p, str)]
    rows = np.array([prepared[i][0].line for i in good], np.uint32)
    prompts = [prepared[i][1] for i in good]
    found = predictor.answers(prompts, self.options, rows)
    answers = dict(zip(good, found, strict=True))
    for i, (item, prompt) in enumerate(prepared):
      value = item.head
      if i in answers:
        best = answers[i]
        value |= {'text': best.text, 'score': best.score}
        if best.others:
          value['others'] = [
            {'text': other.text, 'score': other.score} for other in best.others
          ]
      else:
        value['error'] = prompt
      value['record'] = item.digest
      value['settings'] = self.settings_digest
      value['model'] = predictor.digest
      yield json_text(value)


def _is_error(line: str) -> bool:
  return '"error": ' in line and 'error' in json.loads(line)


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
