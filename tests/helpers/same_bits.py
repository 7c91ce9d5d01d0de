"""What two trainers saved, array by array."""

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util


def saved(directory, step):
  """All arrays of a checkpoint by name; empty nodes are left out."""
  path = directory / f'checkpoint_{step}' / 'state'
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    tree = checkpointer.restore(
      path, restore_args=jax.tree.map(lambda _: as_numpy, tree)
    )
  flat = traverse_util.flatten_dict(tree, sep='/')
  return {n: np.asarray(x) for n, x in flat.items() if x is not None}


def assert_same_bits(one, other, step=20):
  one, other = saved(one, step), saved(other, step)
  assert one.keys() == other.keys()
  for name in one:
    assert one[name].dtype == other[name].dtype, name
    same = one[name].tobytes() == other[name].tobytes()
    assert same, f'{name}: {one[name]} {other[name]}'
