"""What clients, networks and devices do wrong, and what becomes of others."""

import contextlib
import io
import json
import socket
import struct
import threading
import tracemalloc
import zlib

import http_running
import pytest
import served_model
from PIL import Image
from served_model import (
  Asked,
  Scripted,
  answer,
  image,
  url_of,
  user,
  words,
)

from mmicl_jax.serve import jobs
from mmicl_jax.serve.jobs import Finished, NewTokens, Started

CHAT = '/v1/chat/completions'
ASK = {'messages': [user(words('what?'))], 'max_tokens': 4}


@pytest.fixture
def scripted(tiny_served_predictor):
  with served_model.serving(
    tiny_served_predictor, Scripted(max_queue=2)
  ) as found:
    yield found


def head(length, more=''):
  return (
    f'POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: '
    f'application/json\r\nContent-Length: {length}\r\n{more}\r\n'
  ).encode()


def connect(found, body=ASK):
  """An open connection that has asked."""
  data = json.dumps(body).encode()
  connection = socket.create_connection(('127.0.0.1', found.port), 60)
  connection.sendall(head(len(data)) + data)
  return connection


def read_all(connection):
  data = b''
  while part := connection.recv(65536):
    data += part
  return data


def png_of(width, height):
  """The head of a PNG file that names a size and has no such pixels."""
  chunk = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  data = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk
  data += struct.pack('>I', zlib.crc32(chunk))
  body = b'IDAT' + zlib.compress(b'\0' * 100)
  return data + struct.pack('>I', len(body) - 4) + body + b'\0' * 4


def test_an_image_of_178_megapixels_is_judged_by_its_head(scripted):
  url = url_of(png_of(13_344, 13_344))
  part = {'type': 'image_url', 'image_url': {'url': url}}
  status, _, body = scripted.post(CHAT, {'messages': [user(part)]})
  assert (status, body['error']['code']) == (400, 'invalid_image')
  assert '178062336 pixels' in body['error']['message']


def test_a_truncated_jpeg_is_named(scripted):
  file = io.BytesIO()
  Image.new('RGB', (200, 200), 'red').save(file, 'JPEG')
  url = url_of(file.getvalue()[:-300], 'jpeg')
  part = {'type': 'image_url', 'image_url': {'url': url}}
  status, _, body = scripted.post(CHAT, {'messages': [user(image(0), part)]})
  assert (status, body['error']['code']) == (400, 'invalid_image')
  assert body['error']['param'] == 'messages[0].content[1]'


def test_a_body_of_200_mebibytes_is_refused_unread(scripted):
  with socket.create_connection(('127.0.0.1', scripted.port), 60) as client:
    client.sendall(head(200 << 20))
    assert client.recv(4096).startswith(b'HTTP/1.1 413')
  assert scripted.service.admission.body_bytes == 0


def test_a_body_of_200_mebibytes_that_is_sent_all_the_same_is_dropped(scripted):
  """Its client reads the answer afterwards, and may go on."""
  part = b' ' * (1 << 20)
  with socket.create_connection(('127.0.0.1', scripted.port), 60) as client:
    tracemalloc.start()
    try:
      client.sendall(head(200 << 20))
      for _ in range(200):
        client.sendall(part)
      assert client.recv(4096).startswith(b'HTTP/1.1 413')
      assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
      tracemalloc.stop()
    client.sendall(b'GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    assert client.recv(4096).startswith(b'HTTP/1.1 200')


def test_a_body_without_a_length_is_counted(tiny_served_predictor):
  with served_model.serving(
    tiny_served_predictor, Scripted(), max_body=1 << 20
  ) as found:
    with socket.create_connection(('127.0.0.1', found.port), 60) as client:
      data = head(0).replace(
        b'Content-Length: 0', b'Transfer-Encoding: chunked'
      )
      client.sendall(data)
      with contextlib.suppress(OSError):
        for _ in range(32):
          client.sendall(b'10000\r\n' + b' ' * 65536 + b'\r\n')
      assert client.recv(4096).startswith(b'HTTP/1.1 413')
    http_running.eventually(lambda: found.service.is_idle)
    assert found.service.admission.body_bytes == 0


def test_a_slow_body_is_left(tiny_served_predictor):
  with served_model.serving(
    tiny_served_predictor, Scripted(), body_timeout=0.05
  ) as found:
    data = http_running.raw(found.port, head(1000) + b'{"mess')
    assert data.startswith(b'HTTP/1.1 408') and b'body_timeout' in data
    http_running.eventually(lambda: found.service.is_idle)


def test_bodies_of_all_requests_share_a_budget(tiny_served_predictor):
  with served_model.serving(
    tiny_served_predictor, Scripted(), body_budget=100_000
  ) as found:
    with socket.create_connection(('127.0.0.1', found.port), 60) as client:
      client.sendall(head(90_000) + b' ' * 80_000)
      held = found.service.admission
      http_running.eventually(lambda: held.body_bytes >= 80_000)
      status, headers, body = found.post(CHAT, {**ASK, 'x': 'y' * 30_000})
      assert (status, body['error']['code']) == (429, 'overloaded')
      assert headers['retry-after'] == '1'
    http_running.eventually(lambda: held.body_bytes == 0)


def test_a_request_that_waits_holds_neither_its_body_nor_its_files(
  tiny_served_predictor,
):
  """What is counted until then; a message's image has 4 MiB here."""
  file = served_model.picture(0) + bytes(4 << 20)
  part = {'type': 'image_url', 'image_url': {'url': url_of(file)}}
  data = json.dumps({'messages': [user(part, words('what?'))]}).encode()
  scheduler = Scripted()
  with served_model.serving(tiny_served_predictor, scheduler) as found:
    admission, held = found.service.admission, []
    submit = scheduler.submit

    def counted(*job):
      held.append(admission.body_bytes)
      return submit(*job)

    scheduler.submit = counted
    with socket.create_connection(('127.0.0.1', found.port), 60) as client:
      client.sendall(head(len(data)))
      http_running.eventually(lambda: admission.inside == 1)
      tracemalloc.start()
      try:
        client.sendall(data[:1000])
        http_running.eventually(lambda: admission.body_bytes == 1000)
        client.sendall(data[1000:])
        _, listener, _ = scheduler.wait_for(1)
        http_running.eventually(
          lambda: tracemalloc.get_traced_memory()[0] < 2 << 20
        )
        assert tracemalloc.get_traced_memory()[1] > 4 << 20  # it was read
      finally:
        tracemalloc.stop()
      assert admission.body_bytes == 0
      answer(listener, [5, 1])
      assert client.recv(4096).startswith(b'HTTP/1.1 200')


def test_the_queue_is_bounded_from_the_first_byte(scripted):
  """Two may wait here; n counts as n."""
  scheduler = scripted.service.scheduler
  with socket.create_connection(('127.0.0.1', scripted.port), 60) as client:
    client.sendall(head(1000))  # its body never comes
    http_running.eventually(lambda: scripted.service.admission.inside == 1)
    two = {**ASK, 'n': 2, 'temperature': 1}
    status, headers, body = scripted.post(CHAT, two)
    assert (status, body['error']['code']) == (429, 'overloaded')
    first = Asked(scripted, CHAT, ASK)
    scheduler.wait_for(1)
    status, headers, body = scripted.post(CHAT, ASK)
    assert (status, headers['retry-after']) == (429, '1')
    answer(scheduler.jobs[0][1], [5, 1])
    assert first.answer()[0] == 200
  http_running.eventually(lambda: scripted.service.is_idle)


def test_alone_a_request_may_have_more_choices_than_may_wait(scripted):
  asked = Asked(scripted, CHAT, {**ASK, 'n': 5, 'temperature': 1})
  job, listener, _ = scripted.service.scheduler.wait_for(1)
  assert job.choices == 5
  listener(jobs.Failed(jobs.OutOfMemory()))
  assert asked.answer()[0] == 500


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize('begun', [False, True])
def test_a_client_that_left_frees_its_row(scripted, stream, begun):
  connection = connect(scripted, {**ASK, 'stream': stream})
  _, listener, cancelled = scripted.service.scheduler.wait_for(1)
  if begun:
    listener(Started(False))
    listener(NewTokens(0, (5,), (-0.5,)))
    if stream:
      assert connection.recv(4096)
  connection.close()
  http_running.eventually(lambda: cancelled)
  http_running.eventually(lambda: scripted.service.is_idle)
  assert None in cancelled


def test_a_stop_string_cancels_its_choice_alone(scripted):
  tokenizer = scripted.predictor.tokenizer
  dog, cat = tokenizer.encode('dog'), tokenizer.encode('a cat')
  asked = Asked(
    scripted, CHAT, {**ASK, 'n': 2, 'temperature': 1, 'stop': 'dog'}
  )
  _, listener, cancelled = scripted.service.scheduler.wait_for(1)
  listener(Started(False))
  listener(NewTokens(0, tuple(dog), (-0.5,) * len(dog)))
  http_running.eventually(lambda: cancelled == [0])
  listener(NewTokens(1, tuple(cat), (-0.5,) * len(cat)))
  listener(Finished(1, -0.5, 'length'))
  choices = asked.answer()[2]['choices']
  assert [c['message']['content'] for c in choices] == ['', 'a cat']
  assert [c['finish_reason'] for c in choices] == ['stop', 'length']
  assert [c['stop_reason'] for c in choices] == ['dog', None]


def test_a_failure_inside_a_stream_is_its_last_event(scripted):
  connection = connect(scripted, {**ASK, 'stream': True})
  _, listener, _ = scripted.service.scheduler.wait_for(1)
  listener(Started(False))
  listener(NewTokens(0, (5,), (-0.5,)))
  listener(jobs.Failed(jobs.OutOfMemory()))
  data = http_running.read_until(connection, b'out_of_memory')
  connection.close()
  assert b'HTTP/1.1 200' in data and b'[DONE]' not in data


def test_pings_while_a_stream_waits(scripted, monkeypatch):
  monkeypatch.setattr('mmicl_jax.serve.stream.PING_SECONDS', 0.01)
  connection = connect(scripted, {**ASK, 'stream': True})
  _, listener, _ = scripted.service.scheduler.wait_for(1)
  data = http_running.read_until(connection, b': ping\n\n', count=2)
  assert b'"role"' in data.partition(b': ping')[0]
  answer(listener, [5, 1])
  http_running.read_until(connection, b'[DONE]', data)
  connection.close()


def test_a_device_without_memory_fails_one_request_alone(served, monkeypatch):
  scheduler = served.service.scheduler
  submit = scheduler.submit

  def without_memory(model, job, listener, deadline):
    listener(jobs.Failed(jobs.OutOfMemory()))
    return submit(model, job, lambda event: None, deadline)

  monkeypatch.setattr(scheduler, 'submit', without_memory)
  status, _, body = served.post(CHAT, ASK)
  assert (status, body['error']['code']) == (500, 'out_of_memory')
  monkeypatch.undo()
  assert served.post(CHAT, ASK)[0] == 200
  assert served.ask('GET', '/health')[0] == 200


@pytest.mark.parametrize('state', ['dead', 'stalled', 'warming', 'draining'])
def test_health_is_the_engines(scripted, state):
  scripted.service.scheduler.state = state
  for path in ('/health', '/ping', '/health/ready'):
    status, _, body = scripted.ask('GET', path)
    assert (status, body) == (503, {'status': state})
  assert scripted.ask('POST', '/ping')[0] == 503  # as SageMaker may ask
  assert scripted.ask('GET', '/health/live')[0] == 200
  if state != 'stalled':  # which may only be slow
    status, headers, body = scripted.post(CHAT, ASK)
    assert status == 503 and headers['retry-after']
    codes = {'dead': 'engine_dead', 'warming': 'warming_up'}
    assert body['error']['code'] == codes.get(state, 'draining')


def test_an_engine_that_dies_fails_what_runs(scripted):
  asked = Asked(scripted, CHAT, ASK)
  scheduler = scripted.service.scheduler
  _, listener, _ = scheduler.wait_for(1)
  scheduler.state = 'dead'
  listener(jobs.Failed(jobs.EngineDead()))
  status, headers, body = asked.answer()
  assert (status, body['error']['code']) == (503, 'engine_dead')
  assert headers['x-should-retry'] == 'false'
  assert scripted.ask('GET', '/health')[0] == 503


def test_draining_ends_what_runs_and_refuses_the_rest(scripted):
  """As at SIGTERM: tests/commands/serve_test.py sends a real one."""
  scheduler = scripted.service.scheduler
  running = Asked(scripted, CHAT, ASK)
  _, listener, _ = scheduler.wait_for(1)
  listener(Started(False))
  waiting = Asked(scripted, CHAT, ASK)
  scheduler.wait_for(2)

  def drain(timeout=None, coming=None):
    del scheduler.drain  # the next call is the class's own
    scheduler.jobs[1][1](jobs.Failed(jobs.Draining()))

  scheduler.drain = drain
  server = scripted.server
  tick, ticks = server.on_tick, []

  async def counted(counter):
    ended = await tick(counter)
    ticks.append(ended)
    return ended

  server.on_tick = counted
  server.end()
  status, headers, body = waiting.answer()
  assert (status, body['error']['code']) == (503, 'draining')
  assert scripted.ask('GET', '/health')[2] == {'status': 'draining'}
  assert scripted.post(CHAT, ASK)[0] == 503
  before = len(ticks)
  http_running.eventually(lambda: len(ticks) > before + 1)
  assert not any(ticks)  # it does not end while one is answered
  answer(listener, [5, 1])
  assert running.answer()[0] == 200
  server.thread.join(30)
  assert not server.thread.is_alive()


def test_what_was_being_sent_when_the_end_began_is_answered(
  tiny_served_predictor,
):
  data = json.dumps(ASK).encode()
  with served_model.serving(tiny_served_predictor) as found:
    with socket.create_connection(('127.0.0.1', found.port), 60) as client:
      client.sendall(head(len(data)) + data[:5])
      http_running.eventually(lambda: found.service.admission.inside == 1)
      found.server.end()
      http_running.eventually(
        lambda: found.service.scheduler.status() == 'draining'
      )
      assert found.post(CHAT, ASK)[0] == 503
      client.sendall(data[5:])
      assert client.recv(4096).startswith(b'HTTP/1.1 200')


def test_images_are_decoded_within_a_budget():
  """A second one waits until there is room; one alone always has it."""
  from mmicl_jax.serve.media import DecodingRoom

  room = DecodingRoom(100)
  entered = threading.Event()

  def second():
    with room.holding(60):
      entered.set()

  with room.holding(1000):
    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.is_set()
  thread.join(60)
  assert entered.is_set()
