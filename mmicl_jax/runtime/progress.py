"""Shows the progress of a long task: a bar on a terminal, otherwise lines.

Both go to stderr, so that they never mix with results.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
  BarColumn,
  Progress,
  SpinnerColumn,
  Task,
  TextColumn,
)
from rich.table import Column
from rich.text import Text

T = TypeVar('T')

REDRAWN = 0.1  # seconds between two updates of a bar


class ProgressBar:
  """Shows how much is done, a note beside it, and the time that is left.

  total: None if it is not known; then it shows a counter without a bar. start:
  what was done before. seconds: without a terminal it prints a line this often.
  short: without a terminal it prints a line at the end of a short task, too.
  text: turns an amount into text.
  """

  def __init__(
    self,
    name: str,
    total: int | None,
    start: int = 0,
    *,
    seconds: float = 15.0,
    short: bool = True,
    text: Callable[[int], str] = '{:,}'.format,
  ):
    self._name, self._total, self._done = name, total, start
    self._text, self._seconds = text, seconds
    self._told = short
    self._note = ''
    self._first: tuple[float, int] | None = None
    self._shown = time.monotonic()
    self._bar = _bar(total is None) if sys.stderr.isatty() else None
    if self._bar is not None:
      self._seconds, self._told = REDRAWN, True
      self._task = self._bar.add_task(name, total=total)

  def __enter__(self) -> 'ProgressBar':
    if self._bar is not None:
      self._show()
      self._bar.start()
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._show()
      self._bar.stop()

  def step(self, done: int) -> None:
    """Sets the amount that is done."""
    self._done = done
    now = time.monotonic()
    if self._first is None:
      # The time before, such as that of compiling, does not predict the rest.
      self._first = now, done
    if now - self._shown >= self._seconds or (
      done == self._total and self._told
    ):
      self._shown, self._told = now, True
      self._show()

  def advance(self, amount: int = 1) -> None:
    """Adds to the amount that is done."""
    self.step(self._done + amount)

  def note(self, text: str) -> None:
    """Sets the text beside the numbers."""
    self._note = text

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._bar is not None:
      self._bar.console.print(text, markup=False, highlight=False)
    else:
      print(text, file=sys.stderr, flush=True)

  def _show(self) -> None:
    text = self._text(self._done)
    if self._total is not None:
      text += f'/{self._text(self._total)}'
    left, note = self._left(), self._note
    if self._bar is not None:
      self._bar.update(
        self._task, completed=self._done, text=text, left=left, note=note
      )
    else:
      self.say(' '.join(filter(None, [self._name, text, note, left])))

  def _left(self) -> str:
    if self._total is None or self._first is None:
      return ''
    begin, start = self._first
    rest, passed = self._total - self._done, time.monotonic() - begin
    if self._done <= start:
      return '' if rest else f'{clock(0.0)} to go'
    return f'{clock(rest * passed / (self._done - start))} to go'


def counted(
  name: str, items: Iterable[T], total: int | None = None
) -> Iterator[T]:
  """Yields the items, with a ProgressBar that counts them.

  Without a terminal a task of some seconds prints nothing.
  """
  with ProgressBar(name, total, short=False) as bar:
    for item in items:
      yield item
      bar.advance()


def clock(seconds: float) -> str:
  """A time as 27:46:40; from two days on as '2 days 07:33' (hours, minutes)."""
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  if hours < 48:
    return f'{hours:02}:{minute:02}:{second:02}'
  return f'{hours // 24} days {hours % 24:02}:{minute:02}'


class _Note(TextColumn):
  """The only column that is cut if the terminal is narrow."""

  def render(self, task: Task) -> Text:
    text = super().render(task)
    text.no_wrap, text.overflow = True, 'ellipsis'
    return text


def _bar(counter: bool) -> Progress:
  return Progress(
    TextColumn('{task.description}', markup=False),
    SpinnerColumn('line') if counter else BarColumn(20),
    TextColumn('{task.fields[text]}', markup=False),
    TextColumn('{task.fields[left]}', markup=False),
    _Note('{task.fields[note]}', markup=False, table_column=Column()),
    console=Console(stderr=True),
    # Otherwise rich would print to the terminal what should go to a file.
    redirect_stdout=sys.stdout.isatty(),
    transient=counter,
  )
