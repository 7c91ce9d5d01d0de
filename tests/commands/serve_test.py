"""`mmicl serve`: its arguments, and a process that is started and ended."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import build_deps
import http_running
import pytest
import tiny_dir

from mmicl_jax.__main__ import main, parse
from mmicl_jax.commands.serve import served_names
from mmicl_jax.errors import UserError

CHAT = '/v1/chat/completions'
ASK = {
  'messages': [{'role': 'user', 'content': 'what is it?'}],
  'max_tokens': 4,
}


def names(*argv):
  return served_names(parse(['serve', *argv]).models)


def test_names_belong_to_the_checkpoint_before_them():
  assert names('--checkpoint', 'a') == {'a': 'a'}
  assert names(
    *('--checkpoint', 'a', '--served-model-name', 'x'),
    *('--served-model-name', 'y', '--checkpoint', 'b'),
    *('--checkpoint', 'c', '--served-model-name', 'z'),
  ) == {'x': 'a', 'y': 'a', 'b': 'b', 'z': 'c'}
  assert names('--served-model-name', 'x', '--checkpoint', 'a') == {'x': 'a'}
  with pytest.raises(UserError, match='x stands for two'):
    names(
      *('--checkpoint', 'a', '--served-model-name', 'x'),
      *('--checkpoint', 'b', '--served-model-name', 'x'),
    )


def test_flags_of_other_commands_may_have_dashes():
  args = parse(['serve', '--checkpoint', 'a', '--max-input-length', '7'])
  assert args.max_input_length == 7
  args = parse(['serve', '--checkpoint', 'a', '--max_input_length', '8'])
  assert args.max_input_length == 8


@pytest.mark.parametrize('flag', ['request', 'body', 'shutdown'])
def test_no_time_is_a_mistake(flag, capsys):
  argv = ['serve', '--checkpoint', 'a', f'--{flag}-timeout', '0']
  assert main(argv) == 2
  assert f'--{flag}-timeout is 0' in capsys.readouterr().err


def test_a_queue_is_not_negative(capsys):
  assert main(['serve', '--checkpoint', 'a', '--max-queue', '-1']) == 2
  assert '--max-queue is -1' in capsys.readouterr().err


@pytest.mark.parametrize('flag', ['body', 'image', 'pixels'])
def test_a_limit_of_nothing_is_a_mistake(flag, capsys):
  for value in ('0', '-1'):
    assert main(['serve', '--checkpoint', 'a', f'--max-{flag}', value]) == 2
    assert f'--max-{flag} is {value}' in capsys.readouterr().err


def test_limits_are_settings(monkeypatch):
  from mmicl_jax.serve import run
  from mmicl_jax.serve.settings import Settings

  found = []
  monkeypatch.setattr(
    run, 'serve_checkpoints', lambda *args: found.append(args)
  )
  limits = ('--max-body', '1', '--max-image', '0.5', '--max-pixels', '9')
  for flags in ((), limits):
    assert main(['serve', '--checkpoint', 'a', *flags]) == 0
  names = ('max_body', 'max_image', 'max_pixels')
  default, own = ([getattr(args[0], name) for name in names] for args in found)
  assert default == [getattr(Settings(), name) for name in names]
  assert own == [1 << 20, 1 << 19, 9]


@pytest.mark.parametrize('beams', ['0', '17'])
def test_beams_are_those_that_clients_may_ask_for(beams, capsys):
  assert main(['serve', '--checkpoint', 'a', '--beams', beams]) == 2
  assert f'--beams is {beams}' in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'starlette.applications', None)
  for name in [n for n in sys.modules if n.startswith('mmicl_jax.serve.')]:
    if name.endswith(('.run', '.app')):
      monkeypatch.delitem(sys.modules, name)
  assert main(['serve', '--checkpoint', 'a']) == 2
  assert "pip install 'mmicl_jax[serve]'" in capsys.readouterr().err


class Process:
  """`mmicl serve` on any port; `log()` is what it said so far."""

  def __init__(self, folder, *argv, **environment):
    self.path = folder / 'log'
    self._file = open(self.path, 'w')
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'mmicl_jax', 'serve', '--port', '0', *argv],
      cwd=build_deps.ROOT,
      env={**os.environ, **environment},
      stdout=self._file,
      stderr=self._file,
    )

  def log(self):
    return self.path.read_text()

  def wait_for(self, words):
    def found():
      assert self.process.poll() is None or words in self.log(), self.log()
      return re.search(words, self.log())

    return http_running.eventually(found, 300)

  @property
  def port(self):
    return int(self.wait_for(r'listening on http://127.0.0.1:(\d+)')[1])

  def end(self):
    if self.process.poll() is None:
      self.process.kill()
    self.process.wait()
    self._file.close()


@pytest.fixture
def started(tmp_path):
  processes = []

  def start(*argv, **environment):
    processes.append(Process(tmp_path, *argv, **environment))
    return processes[-1]

  yield start
  for process in processes:
    process.end()


def counted(port, key, name):
  """A number of /metrics, such as that of requests that have come in."""
  _, _, text = http_running.ask(port, 'GET', '/metrics', **key)
  found = re.findall(rf'^mmicl_{name}{{.*}} (.*)$', text.decode(), re.M)
  return sum(map(float, found))


@pytest.mark.slow
def test_a_process_is_started_asked_and_ended(tmp_path, started):
  """It listens while it loads; two names are two models; SIGTERM is 0."""
  model = tmp_path / 'model'
  model.mkdir()
  tiny_dir.make(model)
  flags = ('--max-input-length', '32', '--max-tokens', '8', '--beams', '2')
  server = started(
    *('--checkpoint', str(model), '--served-model-name', 'first'),
    *('--served-model-name', 'second', *flags),
    MMICL_API_KEY='secret, other',
  )
  ask = http_running.ask
  status, _, body = ask(server.port, 'GET', '/health')
  assert (status, body) == (503, {'status': 'warming'})
  key = {'authorization': 'Bearer other'}
  status, _, body = ask(server.port, 'POST', CHAT, ASK, **key)
  assert (status, body['error']['code']) == (503, 'warming_up')
  server.wait_for('ready after')
  assert ask(server.port, 'GET', '/health')[0] == 200
  assert ask(server.port, 'POST', CHAT, ASK)[0] == 401
  answers = []
  for name in ('first', 'second'):
    asked = {**ASK, 'model': name}
    status, _, body = ask(server.port, 'POST', CHAT, asked, **key)
    assert status == 200 and body['model'] == name
    answers.append(body['choices'][0]['message']['content'])
  assert answers[0] == answers[1]
  assert ask(server.port, 'GET', '/')[0] == 200
  compiled = counted(server.port, key, 'compiles_total')
  searched = {**ASK, 'num_beams': 2, 'n': 2, 'repetition_penalty': 1.2}
  assert ask(server.port, 'POST', CHAT, searched, **key)[0] == 200
  assert counted(server.port, key, 'compiles_total') == compiled > 0
  many = 40  # more than there are slots
  sampled = {**ASK, 'temperature': 1, 'min_tokens': 4}
  with ThreadPoolExecutor(many) as pool:
    asked = [
      pool.submit(ask, server.port, 'POST', CHAT, sampled, **key)
      for _ in range(many)
    ]
    # All have come in: three were answered above.
    name = 'request_prompt_tokens_count'
    http_running.eventually(lambda: counted(server.port, key, name) == many + 3)
    server.process.send_signal(signal.SIGTERM)
    found = [future.result() for future in asked]
  for status, _, body in found:
    assert status == 200 or body['error']['code'] == 'draining'
  assert any(status == 200 for status, *_ in found)
  assert server.process.wait(60) == 0, server.log()
  said = server.log()
  assert 'Traceback' not in said and 'what is it' not in said
  assert 'secret' not in said


@pytest.mark.slow
def test_a_signal_while_it_loads_ends_it_with_0(tmp_path, started):
  model = tmp_path / 'model'
  model.mkdir()
  tiny_dir.make(model)
  server = started('--checkpoint', str(model))
  # It answers, so that it takes signals; nothing is compiled yet.
  assert http_running.ask(server.port, 'GET', '/health')[0] == 503
  server.process.send_signal(signal.SIGTERM)
  assert server.process.wait(60) == 0, server.log()


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path, started):
  """Though a request whose body never ends keeps it from being idle."""
  model = tmp_path / 'model'
  model.mkdir()
  tiny_dir.make(model)
  flags = ('--max-input-length', '32', '--beams', '1')
  server = started('--checkpoint', str(model), *flags)
  server.wait_for('ready after')
  head = (
    f'POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: '
    'application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n'
  )
  with socket.create_connection(('127.0.0.1', server.port), 60) as connection:
    connection.sendall(head.encode())
    # The server wants the body, so it has counted the request.
    assert b'100 Continue' in connection.recv(4096)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for('draining')
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize('what', ['checkpoint', 'port'])
def test_what_cannot_be_served_is_one_line(tmp_path, started, what):
  argv = ['--checkpoint', str(tmp_path / 'nothing')]
  if what == 'port':
    argv += ['--port', '70000']
  server = started(*argv)
  assert server.process.wait(120) == 2
  said = [line for line in server.log().splitlines() if 'mmicl: ' in line]
  assert (
    len(said) == 1 and ('70000' if what == 'port' else 'nothing') in said[0]
  )
  assert 'Traceback' not in server.log()
