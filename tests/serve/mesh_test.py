"""Slots on several devices give what one device gives."""

import jax
import pytest
import small_server
from engine_cases import CANDIDATES, GREEDY, SAMPLES, assert_whole, expected
from small_server import IMAGES, SETTINGS, Client, turn, until

from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.models import partitioning
from mmicl_jax.serve.jobs import AnswerJob, RankJob
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.shapes import PoolShape


@pytest.mark.slow
@pytest.mark.devices(4)
def test_slots_on_a_mesh():
  """Rows over two devices, heads over two; nothing compiles while it runs."""
  mesh = partitioning.make_mesh(data=2, tensor=2)
  tokenizer, config, params = small_server.parts()
  reference = small_server.predictor()
  prompts = [
    reference.prompt(turn('is image {0} a cat? {image}', IMAGES[0])),
    reference.prompt(turn('what is it?')),
  ]
  jobs = [
    AnswerJob(prompts[0], GREEDY),
    AnswerJob(prompts[1], SAMPLES, (7, 8, 9)),
    AnswerJob(prompts[1], GREEDY),
    RankJob(prompts[0], CANDIDATES[:3]),
  ]
  served = Predictor(
    Engine(config, params, mesh=mesh), tokenizer, max_input_length=48
  )
  pools = [PoolShape(48, 4, 2)]
  scheduler = Scheduler({'tiny': served}, **{**SETTINGS, 'pools': pools})
  scheduler.start()
  until(lambda: scheduler.status() == 'ready')
  before = scheduler.counts().programs
  clients = [
    Client(getattr(job, 'choices', 1)).submit(scheduler, job)
    for job in (*jobs, *jobs[::-1])
  ]
  for client in clients:
    client.result()
  assert scheduler.counts().programs == before
  assert scheduler.drain(small_server.PATIENCE)
  for client, job in zip(clients, (*jobs, *jobs[::-1]), strict=True):
    assert_whole(client, (job, *expected(reference, job)))
  assert any(
    x.sharding.shard_shape(x.shape) != x.shape
    for x in jax.tree.leaves(served.engine.params)
  )
