"""Small checkpoints of a run that never ran, and how trees compare."""

import jax
import jax.numpy as jnp
import numpy as np

from mmicl_jax.checkpoints import checkpointer
from mmicl_jax.checkpoints.tree import state_tree
from mmicl_jax.training import optim, stages

PROFILE = ('^projector/', 'query')
TX = optim.adamw(optim.log_warmup(1e-3, 10))


def small_params(width=3):
  return {
    'projector': {'kernel': jnp.arange(2.0 * width).reshape(2, width)},
    't5': {
      'query': {'kernel': jnp.full((2, 2), 2.0)},
      'key': {'kernel': jnp.full((2, 2), 3.0, jnp.bfloat16)},
    },
  }


def run_tree(step, profile=PROFILE, width=3, scale=1.0):
  p = jax.tree.map(lambda x: x * scale, small_params(width))
  trainable, _ = stages.split_params(p, profile)
  return state_tree(p, jnp.int32(step), TX.init(trainable))


def shapes(t):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), t)


def save_run(directory, *steps, keep=None):
  c = checkpointer.Checkpointer(directory, keep=keep)
  for step in steps:
    c.save(step, run_tree(step, scale=step), {'position': step})
  c.close()


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
