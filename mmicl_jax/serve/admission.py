"""Who may come in: bounds on requests and on bytes, from the first byte on."""

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.requests import Request

from mmicl_jax.serve.http_errors import OVERLOADED, HttpError


class Admission:
  """Counts what is under way: choices of requests, and bytes of bodies.

  most: choices that are waited for at a time. body_budget: bytes of bodies that
  are held until they, and the images in them, are read. Used in the event loop
  alone.
  """

  def __init__(self, most: int, body_budget: int):
    self.most = most
    self._budget = body_budget
    self.inside = 0
    self.body_bytes = 0

  @contextlib.contextmanager
  def entered(self) -> Iterator['Visit']:
    """Holds a place for a request; raises HttpError 429 if none is left."""
    entry = Visit(self)
    entry.take_places(1)
    try:
      yield entry
    finally:
      entry.leave()

  def take_bytes(self, count: int) -> None:
    """Counts bytes of a body; raises HttpError 429 above the budget."""
    if self.body_bytes and self.body_bytes + count > self._budget:
      raise overloaded('The bodies of too many requests are being read.')
    self.body_bytes += count


class Visit:
  """What one request holds; its end gives all back."""

  def __init__(self, admission: Admission):
    self._admission = admission
    self._places = self._bytes = 0

  def take_places(self, count: int) -> None:
    """Takes places for further choices; raises HttpError 429."""
    inside = self._admission.inside
    others = inside - self._places
    # Alone, a request may have as many choices as it likes.
    if others and inside + count > self._admission.most:
      raise overloaded('Too many requests are waiting.')
    self._admission.inside += count
    self._places += count

  async def read_body(self, request: Request, most: int, seconds: float):
    """The body; raises HttpError 413, 408 or 429."""
    declared = request.headers.get('content-length', '')
    if declared.isdigit() and int(declared) > most:
      raise _too_large(most)
    parts = []
    try:
      async with asyncio.timeout(seconds):
        async for part in request.stream():
          if self._bytes + len(part) > most:
            raise _too_large(most)
          self._admission.take_bytes(len(part))
          self._bytes += len(part)
          parts.append(part)
    except TimeoutError as error:
      raise HttpError(
        408,
        f'The body did not arrive within {seconds:g} s.',
        code='body_timeout',
        headers={'connection': 'close'},
      ) from error
    return b''.join(parts)

  def drop_body(self) -> None:
    """Gives the bytes of the body back: it is not held any more."""
    self._admission.body_bytes -= self._bytes
    self._bytes = 0

  def leave(self) -> None:
    """Gives everything back."""
    self.drop_body()
    self._admission.inside -= self._places
    self._places = 0


def overloaded(message: str) -> HttpError:
  """The HttpError 429 that asks to come back in a second."""
  return HttpError(
    429, message, kind=OVERLOADED, code='overloaded', retry_after=1
  )


def _too_large(most: int) -> HttpError:
  return HttpError(
    413, f'The body has more than {most} bytes.', code='body_too_large'
  )
