"""What all paths share: the models, the engine, the threads, the counts."""

import asyncio
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.serve.admission import Admission
from mmicl_jax.serve.fetch import Fetcher
from mmicl_jax.serve.health import Health
from mmicl_jax.serve.media import DecodingRoom
from mmicl_jax.serve.metrics import Metrics
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.settings import Settings

T = TypeVar('T')
THREADS = 4  # that parse, decode and tokenize
_PLACES_FOR_WARMING = 64


@dataclasses.dataclass(frozen=True)
class ServedModel:
  """A model by the name that clients call it; root: its directory, as the
  scheduler calls it.
  """

  name: str
  root: str
  predictor: Predictor
  created: int


class Service:
  """The state of the server: without models until `open` is called.

  Used in the event loop, but for `open`, `fail` and `health`.
  """

  def __init__(self, settings: Settings):
    self.settings = settings
    self.metrics = Metrics(settings.metrics_prefix)
    self.admission = Admission(_PLACES_FOR_WARMING, settings.body_budget)
    self.room = DecodingRoom(settings.decoded_bytes)
    self.fetcher = Fetcher(
      settings.media_domains,
      plain=settings.http_media,
      most=settings.max_image,
    )
    self.models: Mapping[str, ServedModel] = {}
    self._scheduler: Scheduler | None = None
    self._draining = False
    self._draining_thread: threading.Thread | None = None
    pool = concurrent.futures.ThreadPoolExecutor
    self._threads = pool(THREADS, 'mmicl-request')
    # Apart from the others, which a slow server of images must not hold up.
    self._fetching = pool(2 * THREADS, 'mmicl-fetch')

  def open(
    self, models: Mapping[str, ServedModel], scheduler: Scheduler
  ) -> None:
    """Takes the models; the scheduler may still be warming up."""
    self.admission.most = scheduler.max_queue + scheduler.counts().slots
    self.models, self._scheduler = models, scheduler
    roots = {name: model.root for name, model in models.items()}
    self.metrics.open(roots, scheduler.counts)
    if self._draining:
      self._end_scheduler()

  @property
  def scheduler(self) -> Scheduler:
    """The engine; there is one once models are there."""
    assert self._scheduler is not None
    return self._scheduler

  def health(self) -> Health:
    """What the server can do now."""
    if self._scheduler is None:
      return Health.DRAINING if self._draining else Health.WARMING
    now = Health(self._scheduler.status())
    if self._draining and now is not Health.DEAD:
      return Health.DRAINING
    return now

  def drain(self) -> None:
    """Takes no more requests; those that are under way go on.

    But for those that wait since all slots are taken: they fail.
    """
    self._draining = True
    if self._scheduler is not None:
      self._end_scheduler()

  def close(self) -> None:
    """Ends the threads of this object."""
    self._threads.shutdown(wait=False, cancel_futures=True)
    self._fetching.shutdown(wait=False, cancel_futures=True)

  @property
  def is_idle(self) -> bool:
    """Whether no request is under way."""
    return self.admission.inside == 0

  def ends_within(self, seconds: float) -> bool:
    """Whether the engine's thread ends after `drain`; waits for it so long."""
    if self._draining_thread is None:
      return False
    self._draining_thread.join(seconds)
    return not self._draining_thread.is_alive()

  def deadline(self) -> float:
    """Until when a request that came now may wait in the queue."""
    return time.monotonic() + self.settings.request_timeout

  async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
    """Runs slow work on the processor outside the event loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._threads, work, *args)

  async def fetch(self, url: str, param: str) -> bytes:
    """An image of another server; raises HttpError."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
      self._fetching, self.fetcher.fetch, url, param
    )

  def _end_scheduler(self) -> None:
    # It waits for the rows that run, so it has a thread of its own.
    self._draining_thread = threading.Thread(
      target=self.scheduler.drain,
      args=(self.settings.shutdown_timeout, lambda: not self.is_idle),
      name='mmicl-drain',
      daemon=True,
    )
    self._draining_thread.start()
