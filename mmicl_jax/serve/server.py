"""Runs the application under uvicorn until SIGTERM, and drains it then."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mmicl_jax.serve.connections import IDLE_SECONDS, Connection
from mmicl_jax.serve.logs import logger

GRACE = 5.0  # seconds in which clients and probes are told of a fault
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingServer(uvicorn.Server):
  """Ends after the first signal once nothing is under way; at once at a second.

  drain: called at the first signal, in the event loop. is_idle: whether nothing
  is under way. seconds: how long to wait for that. is_dead: whether nothing can
  be answered any more; then it ends after GRACE without a signal.
  """

  def __init__(
    self,
    config: uvicorn.Config,
    drain: Callable[[], None],
    is_idle: Callable[[], bool],
    seconds: float,
    is_dead: Callable[[], bool] = lambda: False,
  ):
    super().__init__(config)
    self._drain, self._is_idle, self._seconds = drain, is_idle, seconds
    self._is_dead = is_dead
    self._dead_since: float | None = None
    self._ended = False
    self._loop: asyncio.AbstractEventLoop | None = None
    self._drained_since: float | None = None

  def stop(self) -> None:
    """Begins the end, as a signal does; call it in the event loop."""
    if self._drained_since is None:
      self._drained_since = time.monotonic()
      logger.info('draining: no new requests, at most %g s', self._seconds)
      self._drain()

  def end(self) -> None:
    """As a first signal; for other threads, and before the loop runs, too."""
    self._ended = True
    if self._loop is not None and not self._loop.is_closed():
      self._loop.call_soon_threadsafe(self.stop)

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    if self._drained_since is not None:
      os._exit(128 + sig)
    self.end()

  async def startup(self, sockets=None) -> None:
    self._loop = asyncio.get_running_loop()
    await super().startup(sockets)
    if self._ended:
      self.stop()

  async def on_tick(self, counter: int) -> bool:
    """Called ten times a second: whether the server ends now."""
    if self._drained_since is not None:
      waited = time.monotonic() - self._drained_since
      if self._is_idle() or waited > self._seconds:
        self.should_exit = True
    elif self._is_dead():
      self._dead_since = self._dead_since or time.monotonic()
      if time.monotonic() - self._dead_since >= GRACE:
        logger.error('nothing can be answered any more: start it again')
        self.should_exit = True
    return await super().on_tick(counter)

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    """Takes the signals; unlike uvicorn's, raises none again: the end is 0."""
    if threading.current_thread() is not threading.main_thread():
      yield  # only the main thread can take signals
      return
    former = {sig: signal.signal(sig, self.handle_exit) for sig in _SIGNALS}
    try:
      yield
    finally:
      for sig, handler in former.items():
        signal.signal(sig, handler)


def uvicorn_config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
  """uvicorn's settings: one process, no websockets, no log of its own."""
  return uvicorn.Config(
    app,
    host=host,
    port=port,
    http=Connection,
    loop='asyncio',
    ws='none',
    access_log=False,
    log_config=None,
    server_header=False,
    proxy_headers=False,
    timeout_keep_alive=int(IDLE_SECONDS),
    # What is left then has had its time already.
    timeout_graceful_shutdown=2,
  )
