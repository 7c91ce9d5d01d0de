"""How a server ends whose engine has died, and what its process says then."""

import threading

import http_running
import pytest
from served_model import Scripted

from mmicl_jax.serve import run, server
from mmicl_jax.serve.app import make_app
from mmicl_jax.serve.settings import Settings


def test_a_dead_server_is_asked_for_a_while_and_ends(monkeypatch):
  """Without a signal, so that what started it can start it again."""
  monkeypatch.setattr(server, 'GRACE', 0.0)
  dead = threading.Event()
  config = server.uvicorn_config(make_app(Settings(), []), '127.0.0.1', 0)
  found = server.DrainingServer(
    config, pytest.fail, lambda: True, 10.0, dead.is_set
  )
  ticks = []
  tick = found.on_tick

  async def counted(counter):
    ticks.append(await tick(counter))
    return ticks[-1]

  found.on_tick = counted
  with http_running.in_thread(found) as thread:
    http_running.eventually(lambda: len(ticks) > 2)
    assert not any(ticks)
    dead.set()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize('state, status', [('dead', 1), ('draining', 0)])
def test_the_exit_status_tells_whether_the_engine_died(
  tiny_served_predictor, monkeypatch, state, status
):
  """A supervisor restarts what has failed, and leaves what was told to end."""
  scheduler = Scripted()
  ended = []
  scheduler.start = lambda: setattr(scheduler, 'state', state)
  monkeypatch.setattr(run, 'Scheduler', lambda *args, **settings: scheduler)
  monkeypatch.setattr(run.os, '_exit', ended.append)
  monkeypatch.setattr(run, 'log_to_stderr', lambda: None)
  monkeypatch.setattr(server, 'GRACE', 0.0)
  served = run.service_server

  def signalled(service):
    found = served(service)
    if state == 'draining':
      found.end()
    return found

  monkeypatch.setattr(run, 'service_server', signalled)
  run.serve_checkpoints(
    Settings(port=0), {'tiny': 'tiny'}, lambda root: tiny_served_predictor
  )
  assert [*ended, 0][0] == status
