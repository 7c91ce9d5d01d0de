import jax
import numpy as np
import pytest
from train_test import Data

from mmicl_jax import optim, partitioning, stages, training_state
from mmicl_jax.models import configs

CONFIG = configs.with_execution(configs.TINY, remat='full')


def losses(mesh, steps=3):
  schedule = optim.constant(1e-2)
  chain = optim.adamw(schedule)
  layout = training_state.Layout.of(CONFIG, 'tune', chain, mesh)
  state, frozen = layout.random(jax.random.PRNGKey(0))
  step = training_state.compiled_step(
    layout,
    apply=training_state.apply_fn(CONFIG, mesh),
    optimizer=chain,
    learning_rate=schedule,
    rng=None,
    num_microbatches=2,
  )
  data, seen = iter(Data(16, CONFIG)), []
  for _ in range(steps):
    batch = training_state.to_device(next(data)[0], mesh)
    state, metrics = step(state, frozen, batch)
    seen.append(float(metrics['loss']))
  return seen, state


@pytest.mark.devices(8)
def test_sharded_training_equals_one_device():
  one, _ = losses(partitioning.make_mesh(1, 1, 1, jax.devices()[:1]))
  mesh = partitioning.make_mesh(data=2, fsdp=2, tensor=2)
  eight, state = losses(mesh)
  np.testing.assert_allclose(eight, one, rtol=1e-5)
  # Parameters and moments lie in pieces, alike.
  weight, moment = (
    tree['t5']['decoder']['layers']['cross_attention']['query']['kernel']
    for tree in (state.params, state.opt_state[1][0].mu)
  )
  assert weight.sharding == moment.sharding
  shard = weight.addressable_shards[0].data
  assert shard.size * 4 == weight.size  # fsdp x tensor
  assert stages.split(state.params, 'tune')[1] == {}
