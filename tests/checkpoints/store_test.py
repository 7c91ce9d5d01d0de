"""Weights are read as they were saved, where and in what is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
from saved_runs import assert_equal, run_tree, save_run, small_params

from mmicl_jax.checkpoints import checkpointer, store
from mmicl_jax.checkpoints.tree import state_tree


def test_a_save_is_not_disturbed_by_donation(tmp_path):
  @jax.jit
  def init():
    return {'a': jnp.ones((512, 512))}

  step = jax.jit(lambda t: {'a': t['a'] + 1}, donate_argnums=0)
  state = init()
  c = checkpointer.Checkpointer(tmp_path)
  for i in range(4):
    c.save(i, state_tree(state, jnp.int32(i)))
    for _ in range(5):
      state = step(state)
  c.close()
  for i in range(4):
    saved = store.load_weights(tmp_path / f'checkpoint_{i}')
    np.testing.assert_array_equal(saved['a'], 1 + 5 * i)


def test_weights_take_the_dtype_and_sharding_asked_for(tmp_path):
  store.save_weights(tmp_path, small_params())
  mesh = jax.make_mesh((1,), ('data',))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  asked = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=sharding),
    small_params(),
  )
  loaded = store.load_weights(tmp_path, asked)
  kernel = loaded['projector']['kernel']
  assert kernel.dtype == jnp.bfloat16 and kernel.sharding == sharding
  np.testing.assert_array_equal(kernel, small_params()['projector']['kernel'])
  assert_equal(store.load_weights(tmp_path / 'checkpoint_0'), small_params())


def test_weights_of_a_training_checkpoint(tmp_path):
  save_run(tmp_path, 5, 10)
  assert_equal(store.load_weights(tmp_path), run_tree(0, scale=10)['target'])


def test_that_the_disk_is_full_is_said():
  error = ValueError(
    'Error ' + 'x' * 300 + ' No space left on device [code=28]'
  )
  text = str(store.not_written('m', 3, error))
  assert text.startswith('checkpoint_3 could not be written to m (No space ')
