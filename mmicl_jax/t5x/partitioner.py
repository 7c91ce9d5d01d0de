"""Where T5X puts arrays: on the devices of a run's mesh, as `mmicl train` does.

T5X knows the axes `data` and `model`: our `data` and `fsdp` in one, and our
`tensor`.
"""

import functools
import math
from typing import Any

import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, PartitionSpec
from t5x import partitioning as t5x_partitioning

from mmicl_jax.models import partitioning

AXES = {'data': 'data', 'fsdp': 'data', 'tensor': 'model'}


class Partitioner(t5x_partitioning.PjitPartitioner):
  """T5X's partitioner over a mesh that the files of meshes/ describe.

  T5X's own would give all CPUs of a host to `model`, whatever the file says,
  knows no TPU after v4, and fails where a size does not divide. Here an axis
  that its mesh axis does not divide stays whole, as in partitioning.shardings.
  """

  def __init__(self, mesh: Mesh):
    super().__init__(
      num_partitions=mesh.shape['tensor'], logical_axis_rules=axis_rules(mesh)
    )
    self._devices = mesh.devices

  @functools.cached_property
  def mesh(self) -> Mesh:
    # A host's devices must be a block of the mesh: T5X cuts batches so.
    devices = sorted(self._devices.flat, key=lambda d: d.process_index)
    shape = (-1, self._devices.shape[-1])
    return Mesh(np.array(devices).reshape(shape), ('data', 'model'))

  def get_mesh_axes(self, train_state: Any) -> Any:
    """The mesh axes of every array in a state of arrays or their shapes."""
    found = super().get_mesh_axes(train_state)
    specs = traverse_util.flatten_dict(
      found.state_dict(), keep_empty_nodes=True
    )
    arrays: Any = traverse_util.flatten_dict(
      train_state.state_dict(), keep_empty_nodes=True
    )
    whole = {
      path: whole_where_uneven(spec, arrays[path].shape, self.mesh)
      if isinstance(spec, PartitionSpec)
      else spec
      for path, spec in specs.items()
    }
    return found.restore_state(traverse_util.unflatten_dict(whole))


def whole_where_uneven(
  spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh
) -> PartitionSpec:
  """The spec without mesh axes that do not divide the size they would cut."""

  def kept(axes: Any, size: int) -> Any:
    names = axes if isinstance(axes, tuple) else (axes,)
    parts = math.prod(mesh.shape[name] for name in names if name is not None)
    return None if size % parts else axes

  return PartitionSpec(*map(kept, spec, shape))


def axis_rules(mesh: Mesh) -> list[tuple[str, str | None]]:
  """partitioning.RULES for T5X's axes; parameters are split if `fsdp` is."""
  rules: list[tuple[str, str | None]] = [('batch', 'data')]
  for name, axes in partitioning.RULES:
    whole = not axes or (axes == ('fsdp',) and mesh.shape['fsdp'] == 1)
    rules.append((name, None if whole else AXES[axes[0]]))
  return rules
