"""Writes a run's scalars and its first prompts for TensorBoard."""

import contextlib
import importlib.util
import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from PIL import Image

from mmicl_jax.errors import UserError, explained


class Summaries:
  """Writes TensorBoard's scalars, texts and images into a new event file.

  It uses TensorBoard's record writer, since clu's writers and TensorBoard's own
  event writer import TensorFlow, which takes many seconds. Raises UserError if
  TensorBoard is missing or the file cannot be written.
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
    # protoc makes these classes at import, so type checkers cannot see them.
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
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec('tensorboard') is not None

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one scalar for each value."""
    scalars = [
      self._summary.Value(tag=name, simple_value=value)
      for name, value in values.items()
    ]
    self._add(step=step, summary=self._summary(value=scalars))

  def show(
    self, step: int, prompts: Sequence[tuple[str, bytes | None]]
  ) -> None:
    """Writes prompts: each a Markdown text, and its images as one PNG."""
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
    """Closes the file."""
    with contextlib.suppress(OSError):  # _add has raised it already
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
      remedy = 'make room, or set TENSORBOARD=False; checkpoints are intact'
      raise explained(error, self._path, remedy) from error
