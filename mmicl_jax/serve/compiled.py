"""Counts the programs that this process has compiled, or read from the disk."""

import functools
from typing import Any

import jax

EVENT = '/jax/core/compile/backend_compile_duration'


class _Count:
  """A listener of JAX's events."""

  programs = 0

  def __call__(self, event: str, duration_secs: float, **kwargs: Any) -> None:
    del duration_secs, kwargs
    self.programs += event == EVENT


@functools.cache
def _count() -> _Count:
  count = _Count()
  jax.monitoring.register_event_duration_secs_listener(count)
  return count


def compiled_programs() -> int:
  """How many there are since the first call of this function."""
  return _count().programs
