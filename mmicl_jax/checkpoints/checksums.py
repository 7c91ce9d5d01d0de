"""Sums of the bits of arrays: does a checkpoint hold what was saved?

Neither OCDBT nor zarr guard the bytes of values, so a flipped bit would be
trained on. The sum of an array does not depend on how it is split over devices
and is computed where the array is.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped, UInt32

from mmicl_jax.models import trees

_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of(tree: Mapping[str, Any]) -> dict[str, int]:
  """The sum of each array, by its '/'-joined path."""
  flat = trees.flatten(tree)
  return {name: int(x) for name, x in jax.device_get(_sums(flat)).items()}


def changed(
  tree: Mapping[str, Any], saved: Mapping[str, int], dtypes: Mapping[str, Any]
) -> list[str]:
  """Paths whose arrays have other bits than those that were saved.

  saved: of `of`. dtypes: as saved; an array read in another dtype is not
  comparable and passes.
  """
  flat = trees.flatten(tree)
  same = {
    name: x
    for name, x in flat.items()
    if name in saved and x.dtype == dtypes[name]
  }
  found = jax.device_get(_sums(same))
  return [name for name, x in found.items() if int(x) != saved[name]]


@jax.jit
def _sums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
  return {name: _sum(x) for name, x in arrays.items()}


def _sum(x: Shaped[Array, '*D']) -> UInt32[Array, '']:
  """Each value's bits times an odd number that its place determines.

  Any change of one value changes the sum modulo 2**32; a swap of two does too,
  unless 2**32 divides what it changes.
  """
  bits = jax.lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize])
  place = jnp.zeros(x.shape, jnp.uint32)
  for axis, size in enumerate(x.shape):
    place = place * jnp.uint32(size)
    place += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  return jnp.sum(bits.astype(jnp.uint32) * (2 * place + 1), dtype=jnp.uint32)
