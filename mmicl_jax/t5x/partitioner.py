"""Makes T5X shard arrays over a run's mesh as `mmicl train` does.

T5X's meshes have two axes. Its `data` is our `data` and `fsdp` together; its
`model` is our `tensor`.
"""

import functools
from typing import Any

import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, PartitionSpec
from t5x import partitioning as t5x_partitioning

from mmicl_jax.models import partitioning

AXES = {'data': 'data', 'fsdp': 'data', 'tensor': 'model'}


class Partitioner(t5x_partitioning.PjitPartitioner):
  """T5X's partitioner over a mesh that a file of meshes/ describes.

  T5X's own gives all CPU devices of a host to `model`, whatever the file says,
  knows no TPU after v4, and fails if a size is not divisible. Here such an axis
  stays whole, as in partitioning.shardings.
  """

  def __init__(self, mesh: Mesh):
    super().__init__(
      num_partitions=mesh.shape['tensor'], logical_axis_rules=axis_rules(mesh)
    )
    self._devices = mesh.devices

  @functools.cached_property
  def mesh(self) -> Mesh:
    """The mesh with T5X's axes."""
    # T5X gives each host a block of the batch, so a host's devices must be a
    # block of the mesh.
    devices = sorted(self._devices.flat, key=lambda d: d.process_index)
    shape = (-1, self._devices.shape[-1])
    return Mesh(np.array(devices).reshape(shape), ('data', 'model'))

  def get_mesh_axes(self, train_state: Any) -> Any:
    """The mesh axes of each array in a train state (or of each shape)."""
    found = super().get_mesh_axes(train_state)
    specs = traverse_util.flatten_dict(
      found.state_dict(), keep_empty_nodes=True
    )
    arrays: Any = traverse_util.flatten_dict(
      train_state.state_dict(), keep_empty_nodes=True
    )
    whole = {
      path: partitioning.whole_where_uneven(spec, arrays[path].shape, self.mesh)
      if isinstance(spec, PartitionSpec)
      else spec
      for path, spec in specs.items()
    }
    return found.restore_state(traverse_util.unflatten_dict(whole))


def axis_rules(mesh: Mesh) -> list[tuple[str, str | None]]:
  """partitioning.RULES for T5X's mesh axes.

  `embed` is split over T5X's `data` only if `fsdp` has several devices.
  """
  rules: list[tuple[str, str | None]] = [('batch', 'data')]
  for name, axes in partitioning.RULES:
    whole = not axes or (axes == ('fsdp',) and mesh.shape['fsdp'] == 1)
    rules.append((name, None if whole else AXES[axes[0]]))
  return rules
