"""Collects the metrics of a run's steps and shows them where wanted."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmicl_jax.cost.utilisation import Meter
from mmicl_jax.runtime.hosts import failing_together
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.training.settings import StepSettings
from mmicl_jax.training.tensorboard import Summaries
from mmicl_jax.types import BatchSource

BESIDE_THE_BAR = {
  'loss': 'loss {:.4f}',
  'accuracy': 'accuracy {:.3f}',
  'examples_per_second': '{:.1f} examples/s',
  'skipped': '{:.0f} bad records skipped',
  'truncated': '{:.0f} examples shortened',
}
# What a source of batches counts, and how a line names one of them.
DROPPED = {'skipped': 'bad record', 'truncated': 'example that was shortened'}


class RunLog:
  """Sends the steps' mean metrics to the bar, TensorBoard and a callback.

  every: how many steps each mean is over. meter: turns examples per second into
  FLOP/s, once it is set. last: the newest value of each metric. Only process 0
  shows anything.
  """

  def __init__(
    self,
    bar: ProgressBar,
    summaries: Summaries | None,
    on_metrics: Callable[[int, Mapping[str, float]], None] | None,
    steps: StepSettings,
    every: int,
  ):
    self._bar, self._summaries = bar, summaries
    self._on_metrics = on_metrics
    self._steps, self._every = steps, every
    self._pending: list[Mapping[str, jax.Array]] = []
    self._since = time.monotonic()
    self._more = 0  # examples than rows, since then
    self.meter: Meter | None = None
    self.last: dict[str, float] = {}
    self._told: set[str] = set()

  def __enter__(self):
    if jax.process_index() == 0:
      self._bar.__enter__()
    return self

  def __exit__(self, *error):
    if jax.process_index() == 0:
      self._bar.__exit__(*error)
    if self._summaries is not None:
      self._summaries.close()

  def show_prompts(
    self, step: int, samples: Sequence[tuple[str, bytes | None]]
  ) -> None:
    """Shows prompts in TensorBoard: each a text, and its images as one PNG."""
    if self._summaries is not None:
      self._summaries.show(step, samples)

  def count(self, batch: Mapping[str, np.ndarray], info: Any) -> None:
    """Counts a batch whose shape or number of examples may be its own.

    info: may say how many examples all processes' rows hold: see BatchInfo.
    """
    examples = getattr(info, 'examples', None)
    if examples is not None:
      self._more += examples - self._steps.batch_size
    if self.meter is not None:
      self.meter.count(batch)

  def add(
    self,
    step: int,
    metrics: Mapping[str, jax.Array],
    dropped: Mapping[str, float],
  ) -> None:
    """Takes the metrics of a step, which the device may not have finished.

    dropped: from `dropped_counts`.
    """
    # Only one step may run while the next batch is read: more batches waiting
    # on the device would take memory.
    if self._pending:
      jax.block_until_ready(self._pending[-1])
    self._pending.append(metrics)
    if step % self._every == 0 or step == self._steps.train_steps:
      self._flush(step, dropped)
    if jax.process_index() == 0:
      self._bar.step(step)

  def _flush(self, step: int, dropped: Mapping[str, float]) -> None:
    steps = jax.device_get(self._pending)
    now = time.monotonic()
    values = {
      name: float(np.mean([metrics[name] for metrics in steps]))
      for name in steps[0]
    }
    seconds, rows = now - self._since, len(steps) * self._steps.batch_size
    rate = (rows + self._more) / seconds
    values |= {'examples_per_second': rate, **dropped}
    if self.meter is not None:
      values |= self.meter(rows / seconds)
    self._pending, self._since, self._more = [], now, 0
    self.write(step, values)
    self._bar.note(beside_the_bar(values))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Sends the values of a step, or of an evaluation, on.

    All processes must call it. Raises AllFailed in all if one of them fails.
    """
    self.last |= values
    with failing_together():
      if self._summaries is not None:
        self._summaries.write(step, values)
      if self._on_metrics is not None:
        self._on_metrics(step, values)

  def evaluated(self, step: int, values: Mapping[str, float]) -> None:
    """Sends the values of an evaluation on, and prints them."""
    self.write(step, values)
    told = {n.removeprefix('eval/'): x for n, x in values.items()}
    self.say(f'evaluation at step {step}: {beside_the_bar(told)}')

  def dropped(self, info: Any) -> None:
    """Prints the run's first bad record and first shortened example.

    info: a data.loader.BatchInfo, or what another source gives with a batch.
    """
    for kind, what in DROPPED.items():
      if kind not in self._told and (found := getattr(info, kind, ())):
        self._told.add(kind)
        self.say(f'the first {what}: {found[0]}')

  def say(self, text: str) -> None:
    """Prints a line."""
    if jax.process_index() == 0:
      self._bar.say(text)


def beside_the_bar(values: Mapping[str, float]) -> str:
  """The numbers that a person watches, as text: 'loss 1.2500, ...'."""
  return ', '.join(
    text.format(values[name])
    for name, text in BESIDE_THE_BAR.items()
    if name in values and (name not in DROPPED or values[name])
  )


def dropped_counts(source: BatchSource) -> dict[str, float]:
  """How many records a source has left out, and shortened, so far."""
  return {name: float(getattr(source, name, 0)) for name in DROPPED}
