"""What a person sees of a run: a bar on a terminal, else a line now and then.

And what TensorBoard sees: scalars, and sample prompts with their images.
"""

import contextlib
import importlib.util
import io
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from PIL import Image
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
      bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.completed}/{task.total} {task.fields[text]}'),
        TimeRemainingColumn(),
        console=Console(stderr=True),
      )
      self._task = bar.add_task(name, total=total, completed=start, text='')
      self._bar = bar

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
      left = _clock((self._total - step) / rate)
      self.say(
        f'{self._name} {step}/{self._total} {self._text} {left} to go'.strip()
      )

  def metrics(self, values: Mapping[str, float]) -> None:
    """Shows the newest numbers beside the bar."""
    names = {
      'loss': 'loss {:.4f}',
      'accuracy': 'accuracy {:.3f}',
      'examples_per_second': '{:.1f} examples/s',
      'skipped': '{:.0f} bad records skipped',
    }
    self._text = ', '.join(
      text.format(values[name])
      for name, text in names.items()
      if name in values and (name != 'skipped' or values[name])
    )

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._bar is not None:
      self._bar.console.print(text, markup=False, highlight=False)
    else:
      print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
  """HH:MM:SS; a day is 24 hours, for a run may take many."""
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours:02}:{minutes:02}:{seconds:02}'


class Summaries:
  """TensorBoard scalars, texts and images, one new event file a run.

  Written with TensorBoard's record writer: the writers of clu, and
  TensorBoard's own event writer, import TensorFlow, which takes many seconds.
  Raises UserError where the file cannot be written.
  """

  def __init__(self, directory: str | os.PathLike):
    try:
      from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
      from tensorboard.summary.writer import record_writer
    except ImportError as error:
      raise UserError(
        f'summaries need the package tensorboard ({error}): install it, or '
        'set TENSORBOARD=False'
      ) from error
    # Made by protoc at import: their names are not in the source.
    self._event: Any = vars(event_pb2)['Event']
    self._summary: Any = vars(summary_pb2)['Summary']
    self._metadata: Any = vars(summary_pb2)['SummaryMetadata']
    self._tensor: Any = vars(tensor_pb2)['TensorProto']
    name = f'events.out.tfevents.{time.time_ns()}.{socket.gethostname()}'
    self._path = epath.Path(directory) / name
    self._file = self._path.open('wb')
    self._records = record_writer.RecordWriter(self._file)
    self._add(file_version='brain.Event:2')

  @staticmethod
  def available() -> bool:
    return importlib.util.find_spec('tensorboard') is not None

  def write(self, step: int, values: Mapping[str, float]) -> None:
    scalars = [
      self._summary.Value(tag=name, simple_value=value)
      for name, value in values.items()
    ]
    self._add(step=step, summary=self._summary(value=scalars))

  def show(
    self, step: int, prompts: Sequence[tuple[str, bytes | None]]
  ) -> None:
    """Writes prompts: each a text (Markdown) and its images as one PNG."""
    values = []
    for i, (text, png) in enumerate(prompts):
      values.append(self._text(f'prompts/{i}/text', text))
      if png is not None:
        width, height = Image.open(io.BytesIO(png)).size
        image = self._summary.Image(
          height=height, width=width, colorspace=3, encoded_image_string=png
        )
        values.append(
          self._summary.Value(tag=f'prompts/{i}/image', image=image)
        )
    self._add(step=step, summary=self._summary(value=values))

  def close(self) -> None:
    with contextlib.suppress(OSError):  # what _add failed to write
      self._file.close()

  def _text(self, tag: str, text: str) -> Any:
    plugin = self._metadata.PluginData(plugin_name='text')
    string = self._tensor(dtype='DT_STRING', string_val=[text.encode()])
    return self._summary.Value(
      tag=tag, metadata=self._metadata(plugin_data=plugin), tensor=string
    )

  def _add(self, **fields: Any) -> None:
    event = self._event(wall_time=time.time(), **fields)
    try:
      self._records.write(event.SerializeToString())
      self._file.flush()
    except OSError as error:
      raise UserError(
        f'{self._path} could not be written ({error.strerror}): make room, or '
        'set TENSORBOARD=False; checkpoints are intact'
      ) from error
