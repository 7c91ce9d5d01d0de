"""What stands before all paths: Host, keys, errors, the page's files."""

import contextlib
import logging
import resource
import socket

import http_running
import pytest
from starlette.routing import Route

from mmicl_jax.serve import page_files
from mmicl_jax.serve.app import make_app
from mmicl_jax.serve.health import Health, health_routes
from mmicl_jax.serve.settings import Settings

SECRET = 'what the client asked'


async def fail(request):
  raise ValueError(SECRET)


@pytest.fixture(scope='module')
def port():
  routes = [*health_routes(lambda: Health.WARMING), Route('/fail', fail)]
  settings = Settings(
    api_keys=('first', 'second'),
    allowed_hosts=('my.host',),
    cors_origins=('https://a.page',),
  )
  with http_running.running(make_app(settings, routes)) as server:
    yield server.port


def error_of(answer):
  status, _, body = answer
  assert set(body) == {'error'}
  assert set(body['error']) == {'message', 'type', 'param', 'code'}
  return status, body['error']['code']


KEY = {'authorization': 'Bearer second'}


def test_a_key_is_wanted_on_every_path_but_probes_and_the_page(port):
  wanting = ('/version', '/v1/models', '/metrics', '/nothing', '/pagex')
  for path in (*wanting, '/page/examples.json'):
    assert error_of(http_running.ask(port, 'GET', path)) == (
      401,
      'invalid_api_key',
    )
  for path in ('/', '/health/live', '/page/nothing'):
    assert http_running.ask(port, 'GET', path)[0] in (200, 404)
  assert http_running.ask(port, 'GET', '/version', **KEY)[0] == 200


@pytest.mark.parametrize('said', ['Bearer third', 'Bearer', 'Basic second', ''])
def test_a_wrong_key_is_refused(port, said):
  found = http_running.ask(port, 'GET', '/version', authorization=said)
  assert error_of(found) == (401, 'invalid_api_key')
  assert found[1]['www-authenticate'] == 'Bearer'


@pytest.mark.parametrize(
  'host, status',
  [
    ('evil.example', 400),
    ('localhost.evil.example', 400),
    ('127.0.0.1.evil.example:80', 400),
    ('LOCALHOST:1234', 200),
    ('127.0.0.1', 200),
    ('[::1]:8000', 200),
    ('10.1.2.3:8000', 200),
    ('My.Host', 200),
  ],
)
def test_a_name_that_is_not_ours_is_refused(port, host, status):
  """A stranger's page can make its own name mean 127.0.0.1."""
  found = http_running.ask(port, 'GET', '/health/live', host=host)
  assert found[0] == status
  if status == 400:
    assert error_of(found) == (400, 'invalid_host')


def test_unknown_paths_and_methods_are_json(port):
  assert error_of(http_running.ask(port, 'GET', '/nothing', **KEY)) == (
    404,
    'not_found',
  )
  found = http_running.ask(port, 'DELETE', '/version', **KEY)
  assert error_of(found) == (405, 'method_not_allowed')
  assert 'GET' in found[1]['allow']


@pytest.mark.parametrize(
  'path',
  [
    '/page/../app.py',
    '/page/..%2fapp.py',
    '/page/%2e%2e/app.py',
    '/page//etc/passwd',
    '/page/..%5capp.py',
    '/page/%00',
    '/../../etc/passwd',
  ],
)
def test_no_path_leaves_the_pages_folder(port, path):
  status, _, body = http_running.ask(port, 'GET', path, **KEY)
  assert status == 404 and body['error']['code'] == 'not_found'


def test_the_page_has_a_policy(tmp_path):
  (tmp_path / 'parts').mkdir()
  (tmp_path / 'index.html').write_text('<!doctype html>')
  (tmp_path / 'parts' / 'a.js').write_text('0')
  routes = page_files.page_routes(tmp_path)
  with http_running.running(make_app(Settings(), routes)) as server:
    for path, kind in (('/', 'text/html'), ('/page/parts/a.js', 'javascript')):
      status, headers, _ = http_running.ask(server.port, 'GET', path)
      assert status == 200 and kind in headers['content-type']
      assert headers['content-security-policy'] == (
        "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "frame-ancestors 'none'"
      )
      assert headers['x-content-type-options'] == 'nosniff'


def test_only_pages_that_are_named_may_ask_across(port):
  for origin, allowed in (('https://a.page', True), ('https://b.page', False)):
    _, headers, _ = http_running.ask(
      port,
      'OPTIONS',
      '/v1/models',
      origin=origin,
      access_control_request_method='POST',
    )
    found = headers.get('access-control-allow-origin')
    assert (found == origin) == allowed


def test_a_fault_is_told_to_the_log_without_its_words(port, caplog):
  with caplog.at_level(logging.INFO, 'mmicl_jax.serve'):
    found = http_running.ask(
      port, 'GET', '/fail?q=what', x_request_id='id-7', **KEY
    )
    said = http_running.logged(caplog, 'id-7 GET /fail 500')
  assert error_of(found) == (500, 'internal_error')
  assert found[1]['x-request-id'] == 'id-7'
  assert 'id-7 failed: ValueError' in said and 'front_test.py' in said
  assert SECRET not in said and 'q=what' not in said


@pytest.mark.parametrize('given', ['a b', 'x' * 129, 'é'])
def test_an_odd_request_id_is_replaced(port, given):
  data = (
    f'GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {given}'
  )
  found = http_running.raw(
    port, (data + '\r\nConnection: close\r\n\r\n').encode()
  )
  assert b'200 OK' in found and given.encode() not in found


def test_ten_thousand_headers_are_refused_in_json(port):
  lines = ''.join(f'a{i}: b\r\n' for i in range(10_000))
  found = http_running.raw(
    port, f'GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n'.encode()
  )
  assert found.startswith(b'HTTP/1.1 400') and b'"error"' in found
  assert http_running.ask(port, 'GET', '/health/live')[0] == 200


def test_what_is_no_http_is_refused(port):
  assert b'400' in http_running.raw(port, b'\x16\x03\x01\x02\x00\x01\r\n\r\n')


@pytest.fixture
def many_files():
  """Room for both ends of the connections in this one process."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  most = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
  resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
  yield
  resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_five_hundred_silent_connections_hold_nobody_up(port, many_files):
  with contextlib.ExitStack() as stack:
    for i in range(500):
      connection = socket.create_connection(('127.0.0.1', port), 60)
      stack.enter_context(connection)
      if i % 2:
        connection.sendall(b'POST /v1/rank HTTP/1.1\r\nHost: loc')
    assert http_running.ask(port, 'GET', '/health/live')[0] == 200


def test_warming_is_alive_but_not_ready(port):
  assert http_running.ask(port, 'GET', '/health/live')[0] == 200
  for path in ('/health', '/health/ready', '/ping'):
    status, headers, body = http_running.ask(port, 'GET', path)
    assert (status, body) == (503, {'status': 'warming'})
    assert headers['retry-after']
