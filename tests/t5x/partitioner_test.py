"""T5X puts every array where `mmicl train` puts it, on any mesh."""

import jax
import pytest
import t5x_commands
import tiny_records
from flax import traverse_util
from flax.core import unfreeze
from jax.sharding import PartitionSpec

from mmicl_jax.models import mmicl, partitioning
from mmicl_jax.t5x.model import T5XModel


@pytest.mark.slow
@pytest.mark.devices(4)
@pytest.mark.parametrize('sizes', [(-1, 1, 1), (1, 2, 2), (2, 1, 2), (1, 1, 4)])
def test_arrays_lie_as_under_mmicl_train(sizes):
  t5x_commands.need()
  from t5x import train_state as t5x_train_state

  from mmicl_jax.t5x.partitioner import Partitioner

  mesh = partitioning.make_mesh(*sizes)
  # Two and four do not divide the vocabulary: its axis stays whole.
  model = T5XModel(tiny_records.model(153, 150), 'spiece.model')
  state = jax.eval_shape(
    lambda key: t5x_train_state.FlaxOptimTrainState.create(
      model.optimizer_def,
      model.get_initial_variables(key, {'encoder_images': (1, 1, 14, 14, 3)}),
    ),
    jax.random.PRNGKey(0),
  )
  partitioner = Partitioner(mesh)
  assert partitioner.mesh.devices.shape == (
    mesh.shape['data'] * mesh.shape['fsdp'],
    mesh.shape['tensor'],
  )
  found = partitioner.get_mesh_axes(state)
  specs = traverse_util.flatten_dict(unfreeze(found.params))
  want = traverse_util.flatten_dict(
    partitioning.shardings(mmicl.abstract_params(model.config), mesh)
  )
  renamed = {'fsdp': 'data', 'tensor': 'model', None: None}
  parts = partitioner.mesh.shape
  for path, sharding in want.items():
    ours = tuple(renamed[axis] for axis in sharding.spec)
    theirs = tuple(a if a and parts[a] > 1 else None for a in specs[path])
    assert theirs == ours, path
  state_specs = jax.tree.leaves(
    found.param_states, is_leaf=lambda x: isinstance(x, PartitionSpec)
  )
  split = {
    axis for spec in state_specs for axis in spec if axis and parts[axis] > 1
  }
  assert bool(split) == (sizes[0] != -1)
