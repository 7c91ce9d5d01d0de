"""Dropout whose masks are computed from a key and each entry's place.

A hash of a few integer operations gives each entry its random bits, so that the
backward pass can compute a mask again instead of keeping it, and a mask is the
same on every mesh. XLA's TPU compiler estimates a seventieth of the time that
threefry's bits take.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from mmicl_jax.models.configs import Execution
from mmicl_jax.models.recompute import recomputed


def dropout(
  module: nn.Module, x: Float[Array, '...'], rate: float
) -> Float[Array, '...']:
  """Drops entries of `x` and scales the rest, if there is a 'dropout' key.

  module: has a field `execution`, which says how the masks are made.
  """
  key = dropout_key(module, rate)
  if key is None:
    return x
  execution: Execution = module.execution  # pyright: ignore
  drop = recomputed(execution, lambda x, key: dropped(execution, x, key, rate))
  return drop(x, key)


def dropout_key(module: nn.Module, rate: float) -> jax.Array | None:
  """The key of a layer's next mask; None if nothing is dropped."""
  if rate == 0 or not module.has_rng('dropout'):
    return None
  return module.make_rng('dropout')


def dropped(
  execution: Execution,
  x: Float[Array, '...'],
  key: jax.Array | None,
  rate: float,
) -> Float[Array, '...']:
  """`x` with the entries dropped that the key chooses; itself without one."""
  if key is None:
    return x
  if execution.dropout_bits == 'threefry':
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  else:
    keep = keep_mask(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def keep_mask(
  key: jax.Array, probability: float, shape: tuple[int, ...]
) -> Bool[Array, '...']:
  """True with this probability, to 2**-32, independently in each entry.

  Each plane of the last two axes has two words of its own, from the key and the
  plane's number; an entry's bits are a hash of its place in the plane and of
  these words.
  """
  planes, plane = shape[:-2], shape[-2:]
  first, second = jax.random.bits(key, (2,), jnp.uint32)
  number = _places(planes)
  one = _avalanche(number ^ first) ^ second
  two = _avalanche(one + number)
  wide = (*planes, *(1,) * len(plane))
  bits = (_places(plane) + one.reshape(wide)) * jnp.uint32(0x9E3779B1)
  bits = _avalanche(bits ^ two.reshape(wide))
  return bits < jnp.uint32(min(round(probability * 2**32), 2**32 - 1))


def _places(shape: tuple[int, ...]) -> UInt32[Array, '...']:
  """The number of each entry in row-major order."""
  found = jnp.zeros(shape, jnp.uint32)
  for axis in range(len(shape)):
    stride = math.prod(shape[axis + 1 :]) % 2**32
    place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    found += place * jnp.uint32(stride)
  return found


def _avalanche(x: UInt32[Array, '...']) -> UInt32[Array, '...']:
  """Lets every bit of a word change its high bits.

  Source: the end of xxHash's XXH32, without its last step, which only the low
  bits need.
  """
  x = (x ^ (x >> 15)) * jnp.uint32(0x85EBCA77)
  return (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE3D)
