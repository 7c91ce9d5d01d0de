"""Runs an ASGI application on loopback in a thread, and speaks raw HTTP."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

from mmicl_jax.serve import server


@contextlib.contextmanager
def running(app, drain=lambda: None, is_idle=lambda: True, seconds=10.0):
  """Yields the server (`.port`) and ends it as a signal would."""
  listening = socket.create_server(('127.0.0.1', 0))
  config = server.uvicorn_config(app, '127.0.0.1', 0)
  found = server.DrainingServer(config, drain, is_idle, seconds)
  found.port = listening.getsockname()[1]
  found.sockets = [listening]
  with in_thread(found) as found.thread:
    # The socket listens already: what is asked now waits until it is answered.
    yield found


@contextlib.contextmanager
def in_thread(found):
  """Yields the thread that runs a server, and ends it as a signal would."""
  sockets = getattr(found, 'sockets', None)
  thread = threading.Thread(
    target=lambda: asyncio.run(found.serve(sockets)), daemon=True
  )
  thread.start()
  try:
    yield thread
  finally:
    found.end()
    thread.join(30)
    assert not thread.is_alive()


def ask(port, method, path, body=None, **headers):
  """(status, headers, JSON or bytes) of one request."""
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
  with contextlib.closing(connection):
    data = body
    if body is not None and not isinstance(body, bytes):
      data = json.dumps(body).encode()
    named = {name.replace('_', '-'): value for name, value in headers.items()}
    if data is not None:
      named.setdefault('content-type', 'application/json')
    connection.request(method, path, data, named)
    response = connection.getresponse()
    content = response.read()
    kind = response.headers.get('content-type', '')
    if kind.startswith('application/json'):
      content = json.loads(content)
    return response.status, response.headers, content


def raw(port, data, most=65536):
  """What the server sends back to these bytes until it closes."""
  with socket.create_connection(('127.0.0.1', port), 60) as connection:
    connection.sendall(data)
    found = b''
    while len(found) < most and (part := connection.recv(most)):
      found += part
    return found


def read_until(connection, wanted, data=b'', count=1):
  """What has come, after `data`, once it holds some bytes `count` times."""
  while data.count(wanted) < count:
    part = connection.recv(65536)
    assert part, f'the connection ended after {data!r}'
    data += part
  return data


def eventually(condition, seconds=15):
  """Waits until a condition holds, and returns what it found."""
  end = time.monotonic() + seconds
  while not (found := condition()):
    assert time.monotonic() < end, 'it never happened'
    time.sleep(0.005)
  return found


def logged(caplog, words):
  """The log, once it holds these words: it is written after the answer."""
  eventually(lambda: words in caplog.text)
  return caplog.text
