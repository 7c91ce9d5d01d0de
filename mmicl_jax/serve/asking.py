"""One job under way: the engine's events, in the event loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TypeVar

from mmicl_jax.errors import UserError
from mmicl_jax.serve.admission import overloaded
from mmicl_jax.serve.choice_text import ChoiceText
from mmicl_jax.serve.health import Health, not_ready
from mmicl_jax.serve.http_errors import (
  SERVER,
  HttpError,
  bad_request,
  failure,
)
from mmicl_jax.serve.jobs import (
  DeadlinePassed,
  Draining,
  EngineDead,
  Event,
  Failed,
  Finished,
  Job,
  Looked,
  NewTokens,
  OutOfMemory,
  QueueFull,
  Rated,
  Started,
)
from mmicl_jax.serve.logs import log_fault
from mmicl_jax.serve.metrics import Metrics
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.service import ServedModel

Last = TypeVar('Last', Rated, Looked)


class Asking:
  """Submits a job and waits for what comes of it.

  arrived: when the request came, by time.monotonic. cached: whether the engine
  knew the prompt. Raises HttpError if the job is not taken. `cancel` must be
  called in the end; it does no harm twice.
  """

  def __init__(
    self,
    scheduler: Scheduler,
    metrics: Metrics,
    model: ServedModel,
    job: Job,
    deadline: float,
    arrived: float,
  ):
    loop = asyncio.get_running_loop()
    self._events: asyncio.Queue[Event] = asyncio.Queue()
    self._metrics, self._model = metrics, model.name
    self._tokens = len(job.prompt.tokens)
    self._arrived, self._begun = arrived, time.monotonic()
    self._started = self._first = self._last = 0.0
    self.cached = False

    def listener(event: Event) -> None:
      with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(self._events.put_nowait, event)

    try:
      self._ticket = scheduler.submit(model.root, job, listener, deadline)
    except Exception as error:
      raise explained_failure(error) from error

  def cancel(self, choice: int | None = None) -> None:
    """Ends the job, or one choice of it; the engine frees its rows."""
    self._ticket.cancel(choice)

  async def next_event(self, seconds: float | None = None) -> Event | None:
    """The next event; None if none comes in so many seconds.

    Raises HttpError if the job failed.
    """
    try:
      async with asyncio.timeout(seconds):
        event = await self._events.get()
    except TimeoutError:
      return None
    self._measure(event)
    if isinstance(event, Failed):
      raise explained_failure(event.error) from event.error
    return event

  async def until(self, kind: type[Last]) -> Last:
    """The event of this kind, with which the job ends."""
    while not isinstance(event := await self.next_event(), kind):
      pass
    return event

  async def waiting(
    self, kind: type[Last], ping: float, first: Event | None
  ) -> AsyncIterator[Last | None]:
    """As until, but yields the event, and before it None as progress does."""
    event = first
    while not isinstance(event, kind):
      if event is None:
        yield None
      event = await self.next_event(ping)
    yield event

  async def progress(
    self,
    texts: list[ChoiceText],
    ping: float | None = None,
    first: Event | None = None,
  ) -> AsyncIterator[int | None]:
    """Fills texts; yields the index of each that changed, until all ended.

    Yields None whenever `ping` seconds passed without an event. first: an event
    that was taken already.
    """
    while not all(text.reason for text in texts):
      event, first = first or await self.next_event(ping), None
      if event is None:
        yield None
      elif isinstance(event, NewTokens):
        text = texts[event.choice]
        text.add(event)
        if text.reason:  # at a stop string, which the engine does not know
          self.cancel(event.choice)
        yield event.choice
      elif isinstance(event, Finished):
        texts[event.choice].finish(event.reason)
        yield event.choice
    self._measure_end()

  def _measure(self, event: Event) -> None:
    now = time.monotonic()
    observe = self._metrics.observe
    if isinstance(event, Started):
      self._started, self.cached = now, event.cached
      observe('request_queue_time_seconds', self._model, now - self._begun)
      self._metrics.count('prompt_tokens', self._model, self._tokens)
    elif isinstance(event, NewTokens | Rated | Looked):
      if not self._first:
        self._first = now
        observe('time_to_first_token_seconds', self._model, now - self._arrived)
        observe(
          'request_prefill_time_seconds', self._model, now - self._started
        )
      elif isinstance(event, NewTokens):
        each = (now - self._last) / max(len(event.tokens), 1)
        for _ in event.tokens:
          observe('inter_token_latency_seconds', self._model, each)
      self._last = now

  def _measure_end(self) -> None:
    since = time.monotonic() - (self._first or self._begun)
    self._metrics.observe('request_decode_time_seconds', self._model, since)


def explained_failure(error: Exception) -> HttpError:
  """What a client is told when a job is not taken, or fails."""
  if isinstance(error, UserError):
    return bad_request(str(error))
  if isinstance(error, QueueFull):
    return overloaded('Too many requests are waiting.')
  if isinstance(error, DeadlinePassed):
    return HttpError(
      504,
      'The request waited too long in the queue.',
      kind=SERVER,
      code='timeout',
    )
  if isinstance(error, OutOfMemory):
    return HttpError(
      500,
      'There was too little memory for this request: ask for fewer choices, '
      'beams or images.',
      kind=SERVER,
      code='out_of_memory',
    )
  for kind, health in ((Draining, Health.DRAINING), (EngineDead, Health.DEAD)):
    if isinstance(error, kind) and (found := not_ready(health)):
      return found
  log_fault('a job', error)
  return failure('The model failed; the log of the server has the reason.')
