"""Connections of clients: how long one may be silent, and what bad ones get."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmicl_jax.serve.http_errors import bad_request

IDLE_SECONDS = 30.0


class Connection(H11Protocol):
  """uvicorn's, with an end to silence and with errors as JSON.

  A connection on which no request is under way is closed after IDLE_SECONDS,
  however slowly its next request trickles in.
  """

  _idle: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    self._wait_for_request()

  def connection_lost(self, exc: Exception | None) -> None:
    self._stop_waiting()
    super().connection_lost(exc)

  def data_received(self, data: bytes) -> None:
    super().data_received(data)
    if self.cycle is not None and not self.cycle.response_complete:
      self._stop_waiting()

  def on_response_complete(self) -> None:
    super().on_response_complete()
    if not self.transport.is_closing():
      self._wait_for_request()

  def send_400_response(self, msg: str) -> None:
    """Answers what is no HTTP, or has more headers than are read."""
    body = json.dumps(bad_request(msg).body()).encode()
    headers = [
      (b'content-type', b'application/json'),
      (b'content-length', str(len(body)).encode()),
      (b'connection', b'close'),
    ]
    for event in (
      h11.Response(status_code=400, headers=headers, reason=b'Bad Request'),
      h11.Data(data=body),
      h11.EndOfMessage(),
    ):
      self.transport.write(self.conn.send(event) or b'')
    self.transport.close()

  def _wait_for_request(self) -> None:
    self._stop_waiting()
    self._idle = self.loop.call_later(IDLE_SECONDS, self._close_idle)

  def _stop_waiting(self) -> None:
    if self._idle is not None:
      self._idle.cancel()
      self._idle = None

  def _close_idle(self) -> None:
    if self.cycle is None or self.cycle.response_complete:
      self.transport.close()
