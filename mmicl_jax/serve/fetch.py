"""Fetches images from other servers, and from no machine of our own network.

A client's URL could name a service that only this machine can reach (SSRF). So
nothing is fetched unless the host is allowed by name. Its name is resolved
once, every address must be a public one, and the connection goes to an address
that was judged: a name that changes its meaning afterwards changes nothing.
Redirects are not followed.
"""

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from mmicl_jax.serve.http_errors import HttpError, bad_request

CONNECT_SECONDS, ALL_SECONDS = 5.0, 10.0
PORTS = {'https': 443, 'http': 80}

# Addresses in which others are wrapped, behind a gateway that unwraps them.
_WRAPPING = tuple(
  map(ipaddress.ip_network, ('2002::/16', '64:ff9b::/96', '64:ff9b:1::/48'))
)
_ODD = re.compile(r'[\x00-\x20\x7f\\]')
_HOST = re.compile(r'[a-z0-9]([a-z0-9.-]*[a-z0-9])?')

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


class _Target(NamedTuple):
  scheme: str
  host: str
  path: str


def resolve_name(host: str, port: int) -> list[str]:
  """All addresses of a name, as the system resolves it."""
  found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
  return [str(address[0]) for *_, address in found]


def connect_to(address: str, port: int, seconds: float) -> socket.socket:
  """A connection to an address; no name is resolved."""
  return socket.create_connection((address, port), seconds)


class Fetcher:
  """Fetches files of at most `most` bytes from the hosts in `domains`.

  plain: whether http is allowed beside https. resolve, connect, clock: for
  tests.
  """

  def __init__(
    self,
    domains: Iterable[str],
    *,
    plain: bool = False,
    most: int = 10 << 20,
    resolve: Resolve = resolve_name,
    connect: Connect = connect_to,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._domains = {domain.lower() for domain in domains}
    self._schemes = ('https', 'http') if plain else ('https',)
    self._most = most
    self._resolve, self._connect = resolve, connect
    self._clock = clock

  def fetch(self, url: str, param: str) -> bytes:
    """The file at a URL.

    Raises HttpError 400 for a URL that is not allowed, and 422 if the other
    server does not give the file; `param` names the field in both.
    """
    target = self._judge(url, param)
    port = PORTS[target.scheme]
    end = self._clock() + ALL_SECONDS  # for the name and the connection, too
    try:
      addresses = self._resolve(target.host, port)
    except (OSError, UnicodeError) as error:
      raise _failed(target.host, 'its name is not known', param) from error
    if not addresses or not all(map(is_public, addresses)):
      # Which one, or what it resolved to, is nobody's business.
      raise _failed(target.host, 'its address is not a public one', param)
    try:
      with contextlib.closing(
        self._connect(addresses[0], port, min(CONNECT_SECONDS, self._left(end)))
      ) as sock:
        return self._get(sock, target, param, self._left(end))
    except (OSError, http.client.HTTPException, ValueError) as error:
      raise _failed(target.host, 'it could not be read', param) from error

  def _left(self, end: float) -> float:
    """Seconds until the end; raises TimeoutError if it has passed."""
    left = end - self._clock()
    if left <= 0:
      raise TimeoutError
    return left

  def _judge(self, url: str, param: str) -> _Target:
    """The parts of a URL that may be asked; raises HttpError for others."""
    try:
      parts = urlsplit(url)
      port = parts.port
    except ValueError as error:
      raise bad_request('The URL cannot be read.', param) from error
    host = (parts.hostname or '').lower()
    if parts.scheme not in self._schemes:
      raise bad_request(
        f'This server fetches images by {" or ".join(self._schemes)} only.',
        param,
        'invalid_image',
      )
    if (
      _ODD.search(url)
      or '@' in parts.netloc
      or not _HOST.fullmatch(host)
      or port not in (None, PORTS[parts.scheme])
    ):
      raise bad_request(
        "The URL's host is not written plainly: give scheme://host/path, "
        'without a user, a port or escapes.',
        param,
        'invalid_image',
      )
    if host not in self._domains:
      raise bad_request(
        'This server fetches no images from that host: send a data URL, or '
        'start it with --allow-media-domain HOST.',
        param,
        'invalid_image',
      )
    path = parts.path or '/'
    return _Target(
      parts.scheme, host, f'{path}?{parts.query}' if parts.query else path
    )

  def _get(
    self, sock: socket.socket, target: _Target, param: str, seconds: float
  ) -> bytes:
    """Asks for the path over a connection to the judged address."""
    # Timeouts of sockets begin anew with each byte; this one does not.
    # It has a socket of its own, since TLS takes the connection from this one.
    same = sock.dup()
    end = threading.Timer(seconds, _shut, (same,))
    end.daemon = True
    end.start()
    try:
      if target.scheme == 'https':
        context = ssl.create_default_context()
        sock = context.wrap_socket(sock, server_hostname=target.host)
      connection = http.client.HTTPConnection(target.host)
      connection.sock = sock
      connection.request(
        'GET',
        target.path,
        headers={'accept': 'image/*', 'accept-encoding': 'identity'},
      )
      response = connection.getresponse()
      if response.status != 200:
        said = f'it said {response.status}'
        if 300 <= response.status < 400:
          said += ', and redirects are not followed'
        raise _failed(target.host, said, param)
      data = response.read(self._most + 1)
      if len(data) > self._most:
        raise bad_request(
          f'The image has more than {self._most} bytes: shrink it.',
          param,
          'invalid_image',
        )
      if response.length:
        raise _failed(target.host, 'it stopped in the middle', param)
      return data
    finally:
      end.cancel()
      same.close()
      sock.close()


def is_public(address: str) -> bool:
  """Whether an address is one of the open internet, with nothing wrapped."""
  try:
    found = ipaddress.ip_address(address.partition('%')[0])
  except ValueError:
    return False
  if isinstance(found, ipaddress.IPv6Address):
    if found.ipv4_mapped is not None:
      found = found.ipv4_mapped
    elif any(found in network for network in _WRAPPING):
      return False
  return found.is_global and not (found.is_multicast or found.is_reserved)


def _shut(sock: socket.socket) -> None:
  with contextlib.suppress(OSError):
    sock.shutdown(socket.SHUT_RDWR)


def _failed(host: str, reason: str, param: str) -> HttpError:
  return HttpError(
    422,
    f'The image could not be fetched from {host}: {reason}.',
    param=param,
    code='image_fetch_failed',
  )
