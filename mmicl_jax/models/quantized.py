"""Weights in eight bits, with one scale for each output channel.

The arithmetic stays as it was. A quantised kernel is a box of flax's own kind:
modules open it when they ask for their parameter, so no layer knows of it. It
takes half of bfloat16's memory and bytes a step; a CPU is no faster with it.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from mmicl_jax.models import partitioning

# How many of a kernel's first axes are contracted, where it is not one.
CONTRACTED = {'out': 2, 'patch_embedding': 3}


class Quantized(struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
  """values * scale is the kernel; scale has 1 where `values` is contracted."""

  values: Any  # int8; Any: trees of shardings have this form as well
  scale: Any

  def unbox(self) -> Float[Array, '...']:
    return self.values.astype(self.scale.dtype) * self.scale

  def replace_boxed(self, val: Any) -> 'Quantized':
    return quantize_kernel(val, sum(n == 1 for n in self.scale.shape))

  # Of stacked layers, both arrays have the axis themselves; no name changes.
  def add_axis(self, index: int, params: dict[Any, Any]) -> 'Quantized':
    return self

  def remove_axis(self, index: int, params: dict[Any, Any]) -> 'Quantized':
    return self


def quantize_kernel(kernel: Float[Array, '...'], contracted: int) -> Quantized:
  """Rounds to -127..127; the largest value of each output channel is exact."""
  axes = tuple(range(contracted))
  most = jnp.abs(kernel.astype(jnp.float32)).max(axes, keepdims=True)
  scale = jnp.where(most > 0, most / 127, 1)
  values = jnp.round(kernel.astype(jnp.float32) / scale).astype(jnp.int8)
  return Quantized(values, scale.astype(kernel.dtype))


def quantize(params: Mapping[str, Any], name: str = '') -> dict[str, Any]:
  """The parameters with all kernels in eight bits; tables and norms stay.

  Layers must not be stacked.
  """
  result = {}
  for key, value in params.items():
    if isinstance(value, Mapping):
      result[key] = quantize(value, key)
    elif key == 'kernel':
      result[key] = quantize_kernel(value, CONTRACTED.get(name, 1))
    else:
      result[key] = value
  return result


def is_quantized(params: Any) -> bool:
  leaves = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, Quantized))
  return any(isinstance(leaf, Quantized) for leaf in leaves)


def keep_in_loop(params: Any, changing: Any) -> tuple[Any, Any]:
  """Ties weights to a value that changes, inside a loop.

  Else the compiler opens the boxes once, before the loop, and holds all of
  them open: the memory that eight bits were to save.
  """
  if not is_quantized(params):
    return params, changing
  return jax.lax.optimization_barrier((params, changing))


def quantized_places(params: Any, places: Any) -> Any:
  """Where the leaves of a tree go that may have quantised kernels.

  The kernels' scales are small and go to every device.
  """

  def one(leaf: Any, place: Any) -> Any:
    if isinstance(leaf, Quantized):
      return Quantized(place, partitioning.replicated(place.mesh))
    return place

  return jax.tree.map(
    one, params, places, is_leaf=lambda x: isinstance(x, Quantized)
  )
