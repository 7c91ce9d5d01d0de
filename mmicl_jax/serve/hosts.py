"""Which names of this server a request may use in its header Host.

A page of a stranger can make its own name mean 127.0.0.1 and then ask a server
there as if it were its own (DNS rebinding). Such a request carries the
stranger's name, so only names that are known pass.
"""

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mmicl_jax.serve.http_errors import Reject, bad_request, nobody_counts


class HostCheck:
  """Refuses names other than localhost, IP addresses and `allowed`.

  An IP address cannot be rebound. '*' in `allowed` lets all names pass. reject:
  is told of what it refuses.
  """

  def __init__(
    self,
    app: ASGIApp,
    allowed: Iterable[str] = (),
    reject: Reject = nobody_counts,
  ):
    self._app = app
    self._reject = reject
    self._allowed = {'localhost', *(name.lower() for name in allowed)}

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] == 'http' and '*' not in self._allowed:
      given = Headers(scope=scope).getlist('host')
      name = _host_name(given[0]) if len(given) == 1 else ''
      if name not in self._allowed and not _is_address(name):
        error = bad_request(
          'The header Host names a host that this server does not know: start '
          'it with --allowed-host NAME.',
          code='invalid_host',
        )
        self._reject(error.reason)
        await error.response()(scope, receive, send)
        return
    await self._app(scope, receive, send)


def _host_name(host: str) -> str:
  """'Localhost:8000' -> 'localhost', '[::1]:8000' -> '::1'."""
  if host.startswith('['):
    return host[1:].partition(']')[0]
  return host.partition(':')[0].lower()


def _is_address(name: str) -> bool:
  try:
    ipaddress.ip_address(name)
  except ValueError:
    return False
  return True
