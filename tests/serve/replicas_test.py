"""Replicas of the server behind a balancer answer alike, and drain in turn."""

import contextlib
import itertools
import socket
import threading

import http_running
import pytest
import served_model


class RoundRobin:
  """Hands connections to servers in turn, as a balancer does that knows of
  nothing but their readiness.
  """

  def __init__(self, *backends):
    self.ready = list(backends)
    self.taken = dict.fromkeys(backends, 0)
    self._turn = itertools.count()
    self._listening = socket.create_server(('127.0.0.1', 0))
    self.port = self._listening.getsockname()[1]
    threading.Thread(target=self._accept, daemon=True).start()

  def close(self):
    self._listening.close()

  def _accept(self):
    with contextlib.suppress(OSError):  # it was closed
      while True:
        client, _ = self._listening.accept()
        backend = self.ready[next(self._turn) % len(self.ready)]
        self.taken[backend] += 1
        server = socket.create_connection(('127.0.0.1', backend))
        for pair in ((client, server), (server, client)):
          threading.Thread(target=self._copy, args=pair, daemon=True).start()

  def _copy(self, source, target):
    with contextlib.suppress(OSError):
      while data := source.recv(65536):
        target.sendall(data)
    with contextlib.suppress(OSError):
      target.shutdown(socket.SHUT_WR)


@pytest.mark.slow
def test_replicas_behind_a_balancer_answer_alike(tmp_path, served):
  """And one that drains gets nothing more, while the other goes on."""
  question = served_model.user(
    served_model.image(1), served_model.words('what is it?')
  )
  greedy = {'messages': [question], 'max_tokens': 6}
  sampled = greedy | {'temperature': 1.0, 'seed': 5, 'n': 2}
  other = served_model.tiny_predictor(tmp_path)  # the same weights
  with served_model.serving(other) as leaving:
    balancer = RoundRobin(leaving.port, served.port)

    def ask(body):
      status, _, found = http_running.ask(
        balancer.port, 'POST', '/v1/chat/completions', body
      )
      assert status == 200, found
      return [choice['message']['content'] for choice in found['choices']]

    with contextlib.closing(balancer):
      for body in (greedy, sampled):
        assert ask(body) == ask(body)
      assert set(balancer.taken.values()) == {2}
      leaving.service.drain()
      status, _, said = leaving.ask('GET', '/health')
      assert (status, said['status']) == (503, 'draining')
      assert leaving.ask('GET', '/health/live')[0] == 200
      balancer.ready = [
        s.port for s in (leaving, served) if s.ask('GET', '/health')[0] == 200
      ]
      assert ask(greedy) == ask(greedy)
      assert balancer.taken == {leaving.port: 2, served.port: 4}
