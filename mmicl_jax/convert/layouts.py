"""Maps a parameter's layout in PyTorch to ours, and back.

All maps return views: they neither copy nor change the dtype.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class AxisMap(NamedTuple):
  """A pair of inverse maps.

  torch_shape: our shape -> PyTorch's. to_jax, to_torch: (array, the shape of
  the result) -> array.
  """

  torch_shape: Callable[[Shape], Shape]
  to_jax: Callable[[np.ndarray, Shape], np.ndarray]
  to_torch: Callable[[np.ndarray, Shape], np.ndarray]


def _reshape(array: np.ndarray, shape: Shape) -> np.ndarray:
  return array.reshape(shape)


def leading(ones: int) -> AxisMap:
  """PyTorch has `ones` first axes of size one: [1, Q, D] is our [Q, D]."""
  return AxisMap(lambda shape: (1,) * ones + shape, _reshape, _reshape)


def linear(contracted: int = 1) -> AxisMap:
  """PyTorch's [out, in] is our kernel, whose first `contracted` axes are in."""
  return AxisMap(
    lambda s: (math.prod(s[contracted:]), math.prod(s[:contracted])),
    lambda array, shape: array.T.reshape(shape),
    lambda array, shape: array.reshape(shape[::-1]).T,
  )


SAME = leading(0)
# The bias of several heads: [heads * kv] is our [heads, kv].
FLAT = AxisMap(lambda shape: (math.prod(shape),), _reshape, _reshape)
LINEAR = linear()
# A convolution whose stride is its size: [out, 3, p, p] is our [p, p, 3, out].
CONVOLUTION = AxisMap(
  lambda s: (s[3], s[2], s[0], s[1]),
  lambda array, _: array.transpose(2, 3, 1, 0),
  lambda array, _: array.transpose(3, 2, 0, 1),
)
