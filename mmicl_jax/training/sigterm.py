"""Notices SIGTERM, so that a run can save before its machine is taken away."""

import contextlib
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preempted(Exception):  # noqa: N818
  """Raised when it is time to save and leave."""


class Preemption(contextlib.ContextDecorator):
  """Notices SIGTERM; all processes of a run learn of it at the same step.

  It decorates the function of a run, so that it also notices a signal before
  the first step.
  """

  def __init__(self):
    self._flag = threading.Event()
    self._previous: Any = None
    self._calls = 0

  def __enter__(self):
    self._flag.clear()
    # With several processes, JAX's own service handles the signal.
    alone = jax.process_count() == 1
    if alone and threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(
        signal.SIGTERM, lambda *_: self._flag.set()
      )
    return self

  def __exit__(self, *_):
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)
      self._previous = None

  def check(self) -> None:
    """Raises Preempted if a machine of the run is about to be taken away.

    With several processes each must call this equally often; all of them then
    learn of it in the same call.
    """
    if jax.process_count() == 1:
      requested = self._flag.is_set()
    else:
      self._calls += 1
      requested = multihost_utils.reached_preemption_sync_point(self._calls)
    if requested:
      raise Preempted
