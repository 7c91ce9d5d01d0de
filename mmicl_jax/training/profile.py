"""Traces a few steps, for xprof and TensorBoard's profile plugin."""

import os
from typing import Any

import jax

from mmicl_jax.runtime import remote

FIRST, STEPS = 3, 5  # after compilation and the first reading of data


class StepTrace:
  """Traces the steps FIRST to FIRST + STEPS - 1 after `start`, if `wanted`.

  Writes <directory>/plugins/profile/<time>/*.xplane.pb. A context manager,
  which ends the trace of a run that ends earlier.
  """

  def __init__(self, directory: str | os.PathLike, start: int, wanted: bool):
    if wanted:
      remote.only_here(directory, 'the folder of --profile')
    self._directory = os.fspath(directory)
    self._first = start + FIRST if wanted else None
    self._running = False

  def __enter__(self) -> 'StepTrace':
    return self

  def __exit__(self, *_: Any) -> None:
    if self._running:  # the run was shorter, or failed
      self._stop()

  def before(self, step: int) -> None:
    """Call this before each step."""
    if step == self._first:
      jax.profiler.start_trace(self._directory)
      self._running = True

  def after(self, step: int, result: Any) -> None:
    """Call this after each step, with what it returned."""
    if self._running and self._first and step == self._first + STEPS - 1:
      jax.block_until_ready(result)
      self._stop()

  def _stop(self) -> None:
    jax.profiler.stop_trace()
    self._running = False
