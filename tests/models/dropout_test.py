"""The law of dropout's masks; a mask is the same wherever it is made."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models import configs, partitioning
from mmicl_jax.models.dropout import dropout, keep_mask

SHAPE = (2, 4, 256, 256)


def centred(key, probability=0.9, shape=SHAPE) -> np.ndarray:
  """A mask minus its mean and divided by its deviation, as planes."""
  mask = np.asarray(keep_mask(key, probability, shape), np.float64)
  deviation = np.sqrt(probability * (1 - probability))
  return ((mask - probability) / deviation).reshape(-1, *shape[-2:])


def far(products: np.ndarray) -> float:
  """How many standard deviations a mean of independent products is from 0."""
  return abs(products.mean()) * np.sqrt(products.size)


@pytest.mark.parametrize('probability', [0.5, 0.9, 0.999])
def test_the_rate_in_all_entries_rows_and_columns(probability):
  mask = centred(jax.random.key(1), probability)
  assert far(mask) < 4
  for axis in (1, 2):
    sums = mask.sum(axis) / np.sqrt(mask.shape[axis])
    assert sums.var() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
  'down, right', [(0, 1), (0, 2), (0, 8), (0, 128), (1, 0), (1, 1), (64, 0)]
)
def test_neighbours_are_independent(down, right):
  mask = centred(jax.random.key(2), 0.5)
  height, width = mask.shape[1:]
  one = mask[:, : height - down, : width - right]
  assert far(one * mask[:, down:, right:]) < 4.5


def test_planes_and_keys_are_independent():
  keys = jax.random.split(jax.random.key(3), 4)
  planes = np.concatenate([centred(key) for key in keys])
  pairs = list(itertools.combinations(planes, 2))
  worst = max(far(one * other) for one, other in pairs)
  assert worst < 4.5  # of 496 pairs


@pytest.mark.parametrize('shape', [(), (7,), (3, 5), (2, 3, 4, 5, 6)])
def test_any_shape(shape):
  assert keep_mask(jax.random.key(0), 0.5, shape).shape == shape
  assert keep_mask(jax.random.key(0), 1.0, shape).all()


@pytest.mark.devices(4)
def test_a_mask_is_the_same_on_a_mesh():
  mesh = partitioning.make_mesh(4)
  place = partitioning.batch_sharding(mesh)
  make = jax.jit(
    lambda key: keep_mask(key, 0.9, (8, 16, 16)), out_shardings=place
  )
  key = jax.random.key(4)
  there = make(key)
  assert there.sharding.shard_shape(there.shape)[0] == 2
  np.testing.assert_array_equal(there, keep_mask(key, 0.9, (8, 16, 16)))


class Layer(nn.Module):
  execution: configs.Execution

  @nn.compact
  def __call__(self, x):
    return dropout(self, x, 0.25)


@pytest.mark.parametrize('bits', configs.DROPOUT_BITS)
def test_entries_are_dropped_and_the_rest_scaled(bits):
  layer = Layer(configs.Execution(dropout_bits=bits))
  x = jnp.ones((64, 64))
  assert (layer.apply({}, x) == x).all()
  y = layer.apply({}, x, rngs={'dropout': jax.random.key(0)})
  assert isinstance(y, jax.Array)
  assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
  assert float(y.mean()) == pytest.approx(1, abs=0.05)


def test_former_masks_are_those_of_jax():
  layer = Layer(configs.Execution(dropout_bits='threefry'))
  rngs = {'dropout': jax.random.key(0)}
  x = jnp.ones((8, 8))
  key = layer.apply({}, rngs=rngs, method=lambda self: self.make_rng('dropout'))
  expected = jax.random.bernoulli(key, 0.75, x.shape)
  np.testing.assert_array_equal(layer.apply({}, x, rngs=rngs) != 0, expected)
