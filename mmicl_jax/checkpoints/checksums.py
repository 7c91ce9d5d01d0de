"""Checksums of arrays, which tell whether a checkpoint holds what was saved.

Neither OCDBT nor zarr protects the bytes of values, so a run would train on a
flipped bit. The sum of an array does not depend on how it is split over devices
and is computed on them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped, UInt32

from mmicl_jax.models import trees
from mmicl_jax.runtime import small_arrays

_PIECE = 2**20  # values that are summed at once in host memory
_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of(tree: Mapping[str, Any]) -> dict[str, int]:
  """The checksum of each array, by its path in a form of 'a/b/c'."""
  return _sums(trees.flatten(tree))


def of_array(array: np.ndarray) -> int:
  """The same sum of one array in host memory, a piece at a time."""
  bits = np.ascontiguousarray(array).reshape(-1)
  bits = bits.view(f'u{array.dtype.itemsize}')
  total = 0
  for start in range(0, bits.size, _PIECE):
    piece = bits[start : start + _PIECE].astype(np.uint32)
    place = np.arange(start, start + piece.size).astype(np.uint32)
    total += int(np.sum(piece * (2 * place + 1), dtype=np.uint32))
  return total % 2**32


def changed(
  tree: Mapping[str, Any], saved: Mapping[str, int], dtypes: Mapping[str, Any]
) -> list[str]:
  """The paths of arrays whose bits are not those that were saved.

  saved: the checksums that `of` gave for the saved tree. dtypes: the dtype that
  each array was saved in; an array that is now in another dtype cannot be
  compared, and passes.
  """
  flat = trees.flatten(tree)
  same = {
    name: x
    for name, x in flat.items()
    if name in saved and x.dtype == dtypes[name]
  }
  return [name for name, x in _sums(same).items() if x != saved[name]]


def _sums(arrays: Mapping[str, Any]) -> dict[str, int]:
  # Jitted one by one, so that parameters of one shape share a program. Each is
  # awaited: processes that have many such programs under way may wait for each
  # other for ever.
  return {name: _sum_of(x) for name, x in arrays.items()}


def _sum_of(x: Any) -> int:
  values = small_arrays.values_of(x)
  return int(_sum(x)) if values is None else of_array(values)


@jax.jit
def _sum(x: Shaped[Array, '*D']) -> UInt32[Array, '']:
  """Sums each value's bits times an odd number that depends on its position.

  Any change of one value changes the sum modulo 2**32. So does a swap of two
  values, unless 2**32 divides the difference that it makes.
  """
  bits = jax.lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize])
  place = jnp.zeros(x.shape, jnp.uint32)
  for axis, size in enumerate(x.shape):
    place = place * jnp.uint32(size)
    place += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  return jnp.sum(bits.astype(jnp.uint32) * (2 * place + 1), dtype=jnp.uint32)
