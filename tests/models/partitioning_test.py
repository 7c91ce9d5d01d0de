"""From logical axes to places on a mesh."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning

MESH = AbstractMesh((2, 2, 4), partitioning.MESH_AXES)


@pytest.mark.parametrize(
  ('names', 'shape', 'expected'),
  [
    (('embed', 'heads', 'kv'), (8, 4, 3), ('fsdp', 'tensor', None)),
    (('layers', 'mlp', 'embed'), (3, 8, 8), (None, 'tensor', 'fsdp')),
    (('vocab', 'embed'), (32, 8), ('tensor', 'fsdp')),
    (('activation_batch', None), (8, 5), (('data', 'fsdp'), None)),
    # Not divisible: 6 heads over 4 devices, 7 of a width over 2.
    (('embed', 'heads', 'kv'), (7, 6, 4), (None, None, None)),
    ((None,), (16,), (None,)),
  ],
)
def test_a_spec_follows_the_table(names, shape, expected):
  assert partitioning.partition_spec(names, shape, MESH) == PartitionSpec(
    *expected
  )


def test_mesh_axes_of_one_device_are_left_out():
  mesh = AbstractMesh((2, 1, 4), partitioning.MESH_AXES)
  spec = partitioning.partition_spec(
    ('activation_batch', 'embed'), (4, 8), mesh
  )
  assert spec == PartitionSpec('data', None)


def test_two_axes_of_an_array_cannot_share_devices():
  with pytest.raises(UserError, match='split twice over the mesh axis tensor'):
    partitioning.partition_spec(('heads', 'mlp'), (4, 8), MESH)


def test_an_unknown_axis_is_named():
  with pytest.raises(UserError, match="'haeds'.*vocab"):
    partitioning.partition_spec(('embed', 'haeds'), (4, 4), MESH)


def test_names_and_shape_must_have_one_length():
  with pytest.raises(ValueError):
    partitioning.partition_spec(('embed',), (4, 4), MESH)


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [
    ((8, 16, 6), "('data', 'fsdp'), 'tensor', None"),
    ((8, 257, 6), "('data', 'fsdp'), None, None"),  # 257 patches over 4
    ((3, 16, 6), "None, 'tensor', None"),
  ],
)
def test_activations_are_split_where_that_is_even(shape, expected):
  def run(x):
    return partitioning.shard_activation(
      x, 'activation_batch', 'activation_length', 'activation_embed'
    )

  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  assert 'sharding_constraint' not in str(jax.make_jaxpr(run)(x))
  with partitioning.use_mesh(MESH):
    text = str(jax.make_jaxpr(run)(x))
  assert f'spec=P({expected})' in text.replace('PartitionSpec', 'P'), text


def test_a_tree_keeps_its_structure():
  tree = {
    'kernel': nn.Partitioned(jnp.zeros((8, 8)), ('embed', 'mlp')),
    'plain': jnp.zeros((8, 8)),
  }
  places = partitioning.shardings(tree, MESH)
  assert places['kernel'].spec == PartitionSpec('fsdp', 'tensor')
  assert places['plain'].spec == PartitionSpec(None, None)


def test_a_mesh_takes_what_is_left():
  devices = jax.devices()[:1]
  mesh = partitioning.make_mesh(devices=devices)
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1, 'tensor': 1}
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.slow
@pytest.mark.devices(8)
def test_meshes_of_eight_devices():
  shape = partitioning.make_mesh(-1, 2, 2).shape
  assert dict(shape) == {'data': 2, 'fsdp': 2, 'tensor': 2}
  assert dict(partitioning.make_mesh(2, -1, 1).shape)['fsdp'] == 4
  with pytest.raises(UserError, match='needs 6 devices, but there are 8'):
    partitioning.make_mesh(2, 3, 1)
  with pytest.raises(UserError, match='needs 6 devices, but there are 8'):
    partitioning.make_mesh(-1, 3, 2)


@pytest.mark.parametrize('sizes', [(0, 1, 1), (-1, -1, 1), (1, -2, 1)])
def test_impossible_sizes_are_refused(sizes):
  with pytest.raises(UserError, match='is not possible'):
    partitioning.make_mesh(*sizes)


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
  with pytest.raises(UserError, match='needs 3 devices, but there are 1'):
    partitioning.make_mesh(3, 1, 1, devices=jax.devices()[:1])


def test_meshes_in_words():
  assert dict(partitioning.parse_mesh('data=1,tensor=-1').shape) == {
    'data': 1,
    'fsdp': 1,
    'tensor': len(jax.devices()),
  }
  for text in ('rows=2', 'data', 'data=two', ''):
    with pytest.raises(UserError, match='data=2,tensor=4'):
      partitioning.parse_mesh(text)
  with pytest.raises(UserError, match='needs 1024 devices'):
    partitioning.parse_mesh('data=1024')
