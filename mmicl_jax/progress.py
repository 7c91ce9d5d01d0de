"""What a person sees of a run: a bar on a terminal, else a line now and then.

And what TensorBoard sees: scalars, written by clu.
"""

import os
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mmicl_jax.errors import UserError


class ProgressBar:
  """Steps done, loss, examples per second, and the time that is left.

  On a terminal a moving bar; otherwise one plain line every `seconds`.
  """

  def __init__(
    self, name: str, total: int, start: int = 0, seconds: float = 15.0
  ):
    self._name, self._total, self._start = name, total, start
    self._seconds = seconds
    self._begin = self._last_line = time.monotonic()
    self._text = ''
    self._bar: Progress | None = None
    if sys.stderr.isatty():
      self._bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.completed}/{task.total} {task.fields[text]}'),
        TimeRemainingColumn(),
        console=Console(stderr=True),
      )
      self._task = self._bar.add_task(
        name, total=total, completed=start, text=''
      )

  def __enter__(self) -> 'ProgressBar':
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.stop()

  def step(self, step: int) -> None:
    """Moves to a number of steps done."""
    if self._bar is not None:
      self._bar.update(self._task, completed=step, text=self._text)
      return
    now = time.monotonic()
    if now - self._last_line >= self._seconds or step == self._total:
      self._last_line = now
      rate = max(step - self._start, 1) / max(now - self._begin, 1e-9)
      left = time.strftime('%H:%M:%S', time.gmtime((self._total - step) / rate))
      self.say(
        f'{self._name} {step}/{self._total} {self._text} {left} to go'.strip()
      )

  def metrics(self, values: Mapping[str, float]) -> None:
    """Shows the newest numbers beside the bar."""
    names = {
      'loss': 'loss {:.4f}',
      'accuracy': 'accuracy {:.3f}',
      'examples_per_second': '{:.1f} examples/s',
      'bad_records': '{:.0f} bad records skipped',
    }
    self._text = ', '.join(
      text.format(values[name])
      for name, text in names.items()
      if name in values and (name != 'bad_records' or values[name])
    )

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._bar is not None:
      self._bar.console.print(text, markup=False, highlight=False)
    else:
      print(text, file=sys.stderr, flush=True)


class Summaries:
  """TensorBoard scalars; clu, and with it TensorFlow, is loaded on use."""

  def __init__(self, directory: str | os.PathLike):
    # Only here: importing clu.metric_writers costs seconds and TensorFlow.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    try:
      from clu import metric_writers
    except ImportError as error:
      raise UserError(
        f'TensorBoard summaries need clu and TensorFlow ({error}); install '
        'them or set TENSORBOARD=False'
      ) from error
    self._writer = metric_writers.SummaryWriter(os.fspath(directory))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._writer.write_scalars(step, dict(values))

  def close(self) -> None:
    self._writer.close()
