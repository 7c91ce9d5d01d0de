"""Weights in eight bits, with one scale for each output channel.

A quantised kernel is a box in flax's sense. Products open it and widen the
kernel again; on a CPU those of few rows multiply the eight bits as they are
(products.py). It takes half of bfloat16's memory and bandwidth.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mmicl_jax.models import trees
from mmicl_jax.models.partitioning import replicated

# Modules whose kernels contract more than one axis, and how many.
CONTRACTED = {'out': 2, 'patch_embedding': 3}


class Quantized(struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
  """A kernel as values * scale.

  scale: as `values`, but of size 1 in the axes that are contracted.
  """

  values: Any  # int8; Any: trees of shardings have this form as well
  scale: Any

  def unbox(self) -> Float[Array, '...']:
    return self.values.astype(self.scale.dtype) * self.scale

  def replace_boxed(self, val: Any) -> 'Quantized':
    return quantize_kernel(val, sum(n == 1 for n in self.scale.shape))

  # Scanned layers: both arrays have the axis of layers already, and the box
  # has no names of axes to change.
  def add_axis(self, index: int, params: dict[Any, Any]) -> 'Quantized':
    return self

  def remove_axis(self, index: int, params: dict[Any, Any]) -> 'Quantized':
    return self


@functools.partial(jax.jit, static_argnums=1)  # fewer temporaries
def quantize_kernel(kernel: Float[Array, '...'], contracted: int) -> Quantized:
  """Rounds a kernel to -127..127 times one scale for each output channel.

  contracted: how many of the first axes are inputs. The largest value of each
  channel stays exact.
  """
  axes = tuple(range(contracted))
  most = jnp.abs(kernel.astype(jnp.float32)).max(axes, keepdims=True)
  scale = jnp.where(most > 0, most / 127, 1)
  values = jnp.round(kernel.astype(jnp.float32) / scale).astype(jnp.int8)
  return Quantized(values, scale.astype(kernel.dtype))


def quantize_leaf(path: str, leaf: Any) -> Any:
  """Puts a single layer's kernel into eight bits; returns others unchanged."""
  *_, module, name = ['', *path.split('/')]
  if name != 'kernel' or isinstance(leaf, Quantized):
    return leaf
  return quantize_kernel(leaf, CONTRACTED.get(module, 1))


def quantize(params: Mapping[str, Any]) -> dict[str, Any]:
  """Puts all kernels into eight bits; embeddings, norms and biases stay.

  The layers must not be stacked.
  """
  flat = trees.flatten(params)
  return trees.unflatten({p: quantize_leaf(p, x) for p, x in flat.items()})


def leaf_place(leaf: Any, place: Any) -> Any:
  """The place of a leaf whose values go to `place`, a device or a sharding.

  The scales of a quantised kernel are small and go to every device.
  """
  if isinstance(leaf, Quantized) and isinstance(place, NamedSharding):
    return Quantized(place, replicated(place.mesh))
  return place


def is_quantized(params: Any) -> bool:
  """Whether a tree of parameters holds a quantised kernel."""
  leaves = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, Quantized))
  return any(isinstance(leaf, Quantized) for leaf in leaves)


def keep_in_loop(params: Any, changing: Any) -> tuple[Any, Any]:
  """Ties quantised weights to a value that changes in each turn of a loop.

  Otherwise the compiler widens all weights once before the loop, which takes
  the memory that eight bits save.
  """
  if not is_quantized(params):
    return params, changing
  return jax.lax.optimization_barrier((params, changing))
