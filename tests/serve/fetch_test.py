"""Images of other servers: nothing of our own network can be asked."""

import socket
import threading

import http_running
import pytest

from mmicl_jax.serve.fetch import Fetcher, is_public
from mmicl_jax.serve.http_errors import HttpError

PUBLIC = '93.184.216.34'


class Other:
  """A server on loopback that stands for a public one, and answers once."""

  def __init__(self, answer):
    self._listening = socket.create_server(('127.0.0.1', 0))
    self.asked, self.connected, self.resolved = b'', [], 0
    self._answer = answer
    threading.Thread(target=self._serve, daemon=True).start()

  def _serve(self):
    connection, _ = self._listening.accept()
    with connection:
      self.asked = http_running.read_until(connection, b'\r\n\r\n')
      connection.sendall(self._answer)

  def resolve(self, host, port):
    """Public the first time, loopback from then on."""
    self.resolved += 1
    return [PUBLIC] if self.resolved == 1 else ['127.0.0.1']

  def connect(self, address, port, seconds):
    self.connected.append(address)
    return socket.create_connection(self._listening.getsockname(), seconds)


def reply(body, status='200 OK', more=''):
  head = f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n'
  return head.encode() + body


def fetch(url, answer=b'', most=100, **settings):
  other = Other(answer)
  fetcher = Fetcher(
    ['ok.example'],
    plain=True,
    most=most,
    **{'resolve': other.resolve, 'connect': other.connect, **settings},
  )
  return other, fetcher, lambda: fetcher.fetch(url, 'here')


def test_a_file_comes_from_the_address_that_was_judged():
  """The name's second meaning, loopback, is never asked for (rebinding)."""
  other, _, run = fetch('http://ok.example/a.png?b=1', reply(b'picture'))
  assert run() == b'picture'
  assert other.connected == [PUBLIC] and other.resolved == 1
  assert other.asked.startswith(b'GET /a.png?b=1 HTTP/1.1\r\n')
  assert b'Host: ok.example\r\n' in other.asked


@pytest.mark.parametrize(
  'url',
  [
    'http://169.254.169.254/latest/meta-data',
    'http://127.0.0.1/a',
    'http://localhost/a',
    'http://other.example/a',
    'http://sub.ok.example/a',
    'http://ok.example.evil.example/a',
    'http://ok.example./a',
    'http://user@ok.example/a',
    'http://ok.example@169.254.169.254/a',
    'http://ok.example\\@evil.example/a',
    'http://ok.example%2f@evil/a',
    'http://ok%2eexample/a',
    'http://ok.example:8080/a',
    'http://ok.example:99999/a',
    'http://[::1]/a',
    'http://ok.example/a b',
    'http://ok.example/a\r\nX: y',
    'http:///a',
    'ftp://ok.example/a',
    'file:///etc/passwd',
  ],
)
def test_urls_that_are_not_plainly_of_an_allowed_host(url):
  other, _, run = fetch(url)
  with pytest.raises(HttpError) as caught:
    run()
  assert (caught.value.status, caught.value.param) == (400, 'here')
  assert not other.connected and not other.resolved


def test_http_is_refused_unless_allowed():
  fetcher = Fetcher(['ok.example'])
  with pytest.raises(HttpError, match='https only'):
    fetcher.fetch('http://ok.example/a', 'here')


@pytest.mark.parametrize(
  'addresses',
  [
    ['127.0.0.1'],
    ['169.254.169.254'],
    ['10.0.0.1'],
    ['192.168.1.1'],
    ['100.64.0.1'],
    ['0.0.0.0'],
    ['224.0.0.1'],
    ['::1'],
    ['::ffff:127.0.0.1'],
    ['fe80::1%eth0'],
    ['fc00::1'],
    ['2002:7f00:1::'],
    ['64:ff9b::7f00:1'],
    [PUBLIC, '127.0.0.1'],
    ['no address'],
    [],
  ],
)
def test_every_address_must_be_a_public_one(addresses):
  other, _, run = fetch(
    'http://ok.example/a', resolve=lambda host, port: addresses
  )
  with pytest.raises(HttpError) as caught:
    run()
  assert (caught.value.status, caught.value.code) == (422, 'image_fetch_failed')
  assert not other.connected
  assert not any(a in caught.value.message for a in addresses)


def test_public_addresses():
  assert is_public(PUBLIC) and is_public('2606:2800:220:1::1')
  assert is_public(f'::ffff:{PUBLIC}')


@pytest.mark.parametrize(
  'answer, words',
  [
    (reply(b'', '404 Not Found'), 'it said 404'),
    (reply(b'', '500 Error'), 'it said 500'),
    (
      reply(b'', '302 Found', 'Location: http://127.0.0.1/\r\n'),
      'redirects are not followed',
    ),
    (b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf', 'in the middle'),
    (b'not http at all\r\n\r\n', 'could not be read'),
    (b'', 'could not be read'),
  ],
)
def test_what_another_server_may_do(answer, words):
  other, _, run = fetch('http://ok.example/a', answer)
  with pytest.raises(HttpError, match=words) as caught:
    run()
  assert caught.value.status == 422
  assert other.connected == [PUBLIC]  # once, and nowhere else


def test_a_file_that_is_too_large():
  _, _, run = fetch('http://ok.example/a', reply(b'x' * 101))
  with pytest.raises(HttpError, match='more than 100 bytes'):
    run()


def test_a_name_that_nobody_knows():
  def resolve(host, port):
    raise socket.gaierror(-2, 'unknown')

  _, _, run = fetch('http://ok.example/a', resolve=resolve)
  with pytest.raises(HttpError, match='not known') as caught:
    run()
  assert caught.value.status == 422


def test_the_name_and_the_connection_count_towards_the_time():
  """10 s in all: what the one takes, the next does not have."""
  now, given = [0.0], []

  def resolve(host, port):
    now[0] += 7
    return [PUBLIC]

  def connect(address, port, seconds):
    given.append(seconds)
    now[0] += seconds
    return ours

  ours, theirs = socket.socketpair()
  with theirs:
    _, _, run = fetch(
      'http://ok.example/a',
      resolve=resolve,
      connect=connect,
      clock=lambda: now[0],
    )
    with pytest.raises(HttpError, match='could not be read') as caught:
      run()
  assert caught.value.status == 422 and given == [3.0]
  now[0], given[:] = -2.0, []
  slow = fetch(
    'http://ok.example/a',
    resolve=lambda host, port: [resolve(host, port), resolve(host, port)][0],
    connect=connect,
    clock=lambda: now[0],
  )[2]
  with pytest.raises(HttpError):
    slow()
  assert not given  # nothing is left to connect in


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_a_server_that_never_ends_is_left(monkeypatch, scheme):
  """Each byte begins a socket's timeout anew; the whole has one of its own."""
  monkeypatch.setattr('mmicl_jax.serve.fetch.ALL_SECONDS', 0.2)
  ours, theirs = socket.socketpair()
  caught = []
  _, _, run = fetch(f'{scheme}://ok.example/a', connect=lambda *where: ours)

  def ask():
    with pytest.raises(HttpError) as error:
      run()
    caught.append(error.value.status)

  with theirs:
    if scheme == 'http':  # in TLS not even the handshake ends
      theirs.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx')
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(60)
  assert caught == [422]
