"""A job's way through the engine: who still wants which of its answers."""

import logging
import threading
from collections.abc import Callable

from mmicl_jax.serve.jobs import (
  AnswerJob,
  Event,
  Failed,
  Finished,
  Job,
  Listener,
  Looked,
  NewTokens,
  Rated,
  Started,
)
from mmicl_jax.serve.shapes import PoolShape


class Ticket:
  """What `submit` returns: the client cancels by it, the engine tells by it.

  model, job, deadline: as given to submit. shape: of the slots that it needs,
  None if it needs none. started: whether it has left the queue.
  """

  def __init__(
    self,
    model: str,
    job: Job,
    listener: Listener,
    deadline: float | int | None,
    wake: Callable[[], None],
    shape: PoolShape | None = None,
  ):
    self.shape = shape
    self.model, self.job, self.deadline = model, job, deadline
    self.started = False
    self._listener, self._wake = listener, wake
    self._lock = threading.RLock()  # a listener may cancel
    choices = job.choices if isinstance(job, AnswerJob) else 1
    self._open = set(range(choices))

  @property
  def rows(self) -> int:
    """How many rows of the decoder the job takes for what is still wanted."""
    if isinstance(self.job, AnswerJob) and self.job.searches:
      return self.job.options.num_beams if self.alive else 0
    return len(self._open)

  @property
  def alive(self) -> bool:
    """Whether an event may still come."""
    return bool(self._open)

  def wants(self, choice: int) -> bool:
    """Whether an event of this choice may still come."""
    return choice in self._open

  def cancel(self, choice: int | None = None) -> None:
    """Ends the job, or one of its choices, without an event.

    Any thread may call it, at any time and as often as it likes; a call of the
    listener that has begun ends first.
    """
    with self._lock:
      if choice is None:
        self._open.clear()
      else:
        self._open.discard(choice)
    self._wake()

  def start(self, cached: bool) -> None:
    """The engine takes the job out of the queue."""
    self.started = True
    self.tell(Started(cached))

  def tell(self, event: Event) -> None:
    """Calls the listener, unless the event's answer is not wanted any more.

    A listener that raises gets no more events.
    """
    with self._lock:
      if not self._open:
        return
      if isinstance(event, NewTokens | Finished):
        if event.choice not in self._open:
          return
        if isinstance(event, Finished):
          self._open.discard(event.choice)
      elif isinstance(event, Rated | Looked | Failed):
        self._open.clear()
      try:
        self._listener(event)
      except Exception:  # its fault must not end other clients' jobs
        self._open.clear()
        logging.exception('a listener of the engine failed')
