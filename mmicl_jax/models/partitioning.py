"""How arrays are sharded: one table from logical axes to mesh axes.

Models say what an axis means and never name a device. A mesh has three axes:
`data` splits the batch, `fsdp` the batch and every parameter, `tensor` heads,
MLP and vocabulary. Between the products that it splits, `tensor` splits the
length of activations, so that norms, dropout and sums are computed and kept
once (sequence parallelism: Korthikanti et al., arXiv 2205.05198). An axis of an
array stays whole if its size is no multiple of the devices that would split it.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core.meta import get_global_mesh
from flax.linen import spmd
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from mmicl_jax.errors import UserError

MESH_AXES = ('data', 'fsdp', 'tensor')

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
  ('activation_batch', ('data', 'fsdp')),
  ('activation_length', ('tensor',)),
  ('activation_embed', ()),
  ('vocab', ('tensor',)),
  ('heads', ('tensor',)),
  ('mlp', ('tensor',)),
  ('joined_kv', ('tensor',)),
  ('embed', ('fsdp',)),
  ('kv', ()),
  ('layers', ()),
  ('relpos_buckets', ()),
)


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """Makes a mesh over all devices; one axis may be -1 and takes what is left.

  Raises UserError if the product of the sizes is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh(
    mesh_sizes(data, fsdp, tensor, len(devices)),
    MESH_AXES,
    devices=devices,
    # Linen's einsums over sharded contractions need automatic axes.
    axis_types=(jax.sharding.AxisType.Auto,) * len(MESH_AXES),
  )


def mesh_sizes(
  data: int, fsdp: int, tensor: int, count: int
) -> tuple[int, ...]:
  """The sizes of a mesh over `count` devices with -1 filled in.

  Raises UserError as make_mesh does.
  """
  sizes = [data, fsdp, tensor]
  if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
    raise UserError(
      f'a mesh of {dict(zip(MESH_AXES, sizes, strict=True))} is not possible: '
      'give positive sizes, and -1 to at most one axis.'
    )
  known = math.prod(size for size in sizes if size != -1)
  left = max(count // known, 1)
  sizes = [left if size == -1 else size for size in sizes]
  if math.prod(sizes) != count:
    shape = ', '.join(
      f'{axis}={size}' for axis, size in zip(MESH_AXES, sizes, strict=True)
    )
    raise UserError(
      f'a mesh of {shape} needs {math.prod(sizes)} devices, but there are '
      f'{count}: change the sizes, or leave one at -1.'
    )
  return tuple(sizes)


def parse_mesh(text: str) -> Mesh:
  """Makes a mesh from text such as 'data=2,tensor=4'; absent axes are 1.

  Raises UserError for an unknown axis, for a size that is no number, and if
  the product of the sizes is not the number of devices.
  """
  sizes: dict[str, int] = dict.fromkeys(MESH_AXES, 1)
  for part in text.split(','):
    axis, _, size = part.strip().partition('=')
    try:
      sizes[axis] = int(size) if axis in sizes else int('')
    except ValueError as error:
      raise UserError(
        f'mesh {text!r}: {part.strip()!r} is not AXIS=SIZE with an axis among '
        f'{", ".join(MESH_AXES)}, as in data=2,tensor=4 (-1: what is left).'
      ) from error
  return make_mesh(sizes['data'], sizes['fsdp'], sizes['tensor'])


def partition_spec(
  names: Sequence[str | None], shape: Sequence[int], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
  """The mesh axes that split an array of this shape.

  names: the logical name of each axis, or None. Raises UserError for a name
  that the table lacks, and if two axes would be split by the same mesh axis.
  """
  table, taken, entries = dict(RULES), set(), []
  for name, size in zip(names, shape, strict=True):
    if name is not None and name not in table:
      raise UserError(
        f'no rule for the logical axis {name!r}: partitioning.RULES has '
        f'{", ".join(table)}.'
      )
    axes = table[name] if name is not None else ()
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    if not _divide(axes, size, mesh):
      axes = ()
    if taken & set(axes):
      raise UserError(
        f'an array with the axes {", ".join(map(str, names))} would be split '
        f'twice over the mesh axis {(taken & set(axes)).pop()}: give one of '
        'the two another rule in partitioning.RULES'
      )
    taken |= set(axes)
    entries.append(axes[0] if len(axes) == 1 else axes or None)
  return PartitionSpec(*entries)


def shardings(
  boxed: Any, mesh: Mesh | AbstractMesh, *, over_fsdp: bool = True
) -> Any:
  """The NamedSharding of each leaf of a tree.

  boxed: leaves in boxes with logical names, as `models.mmicl.abstract_params`
  gives them; leaves without a box go to every device. over_fsdp: whether that
  mesh axis splits them, too.
  """

  def one(leaf: Any) -> NamedSharding:
    value = nn.unbox(leaf)
    names = getattr(leaf, 'names', (None,) * len(value.shape))
    spec = partition_spec(names, value.shape, mesh)
    if not over_fsdp:
      spec = PartitionSpec(*(None if axis == 'fsdp' else axis for axis in spec))
    return NamedSharding(mesh, spec)

  return jax.tree.map(
    one, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
  )


def shard_activation(x: jax.Array, *names: str | None) -> jax.Array:
  """Splits an activation; returns x where there is no mesh, or no rules.

  names: the logical name of each axis, or None. Mesh and rules are those of
  use_mesh, or of T5X.
  """
  mesh = get_global_mesh()
  if mesh is None or not nn.get_logical_axis_rules():
    return x
  spec: Any = spmd.logical_to_mesh_axes(names)  # None only for no names
  return jax.lax.with_sharding_constraint(
    x, whole_where_uneven(spec, x.shape, mesh)
  )


def whole_where_uneven(
  spec: PartitionSpec, shape: Sequence[int], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
  """Drops the mesh axes of a spec that do not divide the axis evenly."""

  def kept(axes: Any, size: int) -> Any:
    names = axes if isinstance(axes, tuple) else (axes,)
    names = tuple(name for name in names if name is not None)
    return axes if _divide(names, size, mesh) else None

  return PartitionSpec(*map(kept, spec, shape))


def _divide(axes: Sequence[str], size: int, mesh: Mesh | AbstractMesh) -> bool:
  """Whether the devices along some mesh axes split a size evenly."""
  return size % math.prod(mesh.shape[axis] for axis in axes) == 0


def batch_shards(mesh: Mesh | AbstractMesh) -> int:
  """The number of parts that a mesh splits the rows of a batch into."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
  """The sharding of a batch: its rows over the `data` and `fsdp` axes."""
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
  """The sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def split_by_heads(tree: Any) -> Any:
  """Splits keys and values [B, H, S, K] by heads, in a program under a mesh.

  Other arrays are whole on every device. So programs that hand arrays to each
  other agree on how they lie, and none of them is compiled for another way.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return tree

  def one(x: jax.Array) -> jax.Array:
    names = (None, 'heads', None, None) if x.ndim == 4 else (None,) * x.ndim
    spec = partition_spec(names, x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, spec)

  return jax.tree.map(one, tree)


@contextlib.contextmanager
def use_mesh(
  mesh: Mesh | AbstractMesh, *, in_jit: bool = False
) -> Iterator[None]:
  """Runs a block with the mesh and RULES, which activations are sharded by.

  in_jit: whether jit traces the block, where JAX refuses jax.set_mesh.
  """
  if in_jit or isinstance(mesh, AbstractMesh):
    context: Any = jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
  else:
    context = jax.set_mesh(mesh)
  rules = [(name, axes or None) for name, axes in RULES]
  with context, nn.logical_axis_rules(rules):
    yield
