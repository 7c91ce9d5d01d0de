"""Refuses requests with more headers than any client sends."""

from starlette.types import ASGIApp, Receive, Scope, Send

from mmicl_jax.serve.http_errors import Reject, bad_request, nobody_counts

MOST_HEADERS = 100
MOST_BYTES = 1 << 14  # also what uvicorn waits for; more can come at once


class HeaderLimit:
  """Lets pass what has few headers, which are short together.

  reject: is told of what it refuses.
  """

  def __init__(self, app: ASGIApp, reject: Reject = nobody_counts):
    self._app = app
    self._reject = reject

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] == 'http':
      size = sum(len(name) + len(value) for name, value in scope['headers'])
      if len(scope['headers']) > MOST_HEADERS or size > MOST_BYTES:
        error = bad_request('The request has too many or too long headers.')
        self._reject(error.reason)
        await error.response()(scope, receive, send)
        return
    await self._app(scope, receive, send)
