"""API keys: every path wants one, except the healths and the page's files."""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mmicl_jax.serve.http_errors import HttpError, Reject, nobody_counts

_FREE = ('/', '/ping', '/health', '/health/live', '/health/ready')
_FREE_FOLDER = '/page/'
_DATA = '/page/examples.json'  # records of the operator, no file of the page


class KeyCheck:
  """Refuses requests without one of the keys; lets all pass if there is none.

  Keys are compared as hashes and in constant time, so that neither their
  letters nor their lengths can be found by measuring. reject: is told of what
  it refuses.
  """

  def __init__(
    self, app: ASGIApp, keys: Iterable[str], reject: Reject = nobody_counts
  ):
    self._app = app
    self._reject = reject
    self._keys = [_hashed(key) for key in keys]

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] == 'http' and self._keys and not is_free(scope['path']):
      said = Headers(scope=scope).get('authorization', '')
      kind, _, key = said.partition(' ')
      given = _hashed(key.strip())
      # A list, since `any` of a generator would stop at the first match.
      matches = [hmac.compare_digest(given, known) for known in self._keys]
      if kind.lower() != 'bearer' or not any(matches):
        error = HttpError(
          401,
          'This server wants an API key: send the header '
          "'authorization: Bearer KEY'.",
          code='invalid_api_key',
          headers={'www-authenticate': 'Bearer'},
        )
        self._reject(error.reason)
        await error.response()(scope, receive, send)
        return
    await self._app(scope, receive, send)


def is_free(path: str) -> bool:
  """Whether a path needs no key: those of probes and of the page's files."""
  if path == _DATA:
    return False
  return path in _FREE or path.startswith(_FREE_FOLDER)


def _hashed(key: str) -> bytes:
  return hashlib.sha256(key.encode()).digest()
