"""A machine is about to be taken away: finish the step, save, leave."""

import contextlib
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption(contextlib.ContextDecorator):
  """Notices SIGTERM; all processes agree when it was.

  As a decorator it also covers what a run does before its first step.
  """

  def __init__(self):
    self._flag = threading.Event()
    self._previous: Any = None
    self._calls = 0

  def __enter__(self):
    self._flag.clear()
    # Where there are several processes, JAX's own service has the signal.
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

  def requested(self) -> bool:
    """Whether it is time to save and leave.

    With several processes all must call it equally often, and all are told in
    the same call.
    """
    if jax.process_count() > 1:
      self._calls += 1
      return multihost_utils.reached_preemption_sync_point(self._calls)
    return self._flag.is_set()
