"""What the server's log says while its models are made ready."""

import logging

from served_model import Scripted

from mmicl_jax.serve import run
from mmicl_jax.serve.service import Service
from mmicl_jax.serve.settings import Settings


def test_it_says_that_it_compiles_before_it_does(
  tiny_served_predictor, monkeypatch, caplog
):
  """Which takes minutes, in which nothing else is said."""
  scheduler, said = Scripted(), []
  scheduler.start = lambda: said.append(caplog.text)
  monkeypatch.setattr(run, 'Scheduler', lambda *args, **settings: scheduler)
  service = Service(Settings())
  with caplog.at_level(logging.INFO, 'mmicl_jax.serve'):
    run.load_models(service, {'tiny': 'tiny'}, lambda _: tiny_served_predictor)
  service.close()
  [before] = said
  assert 'compiling' in before and 'ready' not in before
