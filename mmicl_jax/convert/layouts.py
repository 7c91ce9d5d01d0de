"""How one parameter is laid out in PyTorch and here: pairs of inverse maps.

Everything is a view of the array it is given: no copy, no change of dtype.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class AxisMap(NamedTuple):
  """torch_shape: of our shape. to_jax, to_torch: (array, shape wanted)."""

  torch_shape: Callable[[Shape], Shape]
  to_jax: Callable[[np.ndarray, Shape], np.ndarray]
  to_torch: Callable[[np.ndarray, Shape], np.ndarray]


def _reshape(array: np.ndarray, shape: Shape) -> np.ndarray:
  return array.reshape(shape)


def leading(ones: int) -> AxisMap:
  """PyTorch has axes of size one in front: [1, Q, D] is our [Q, D]."""
  return AxisMap(lambda shape: (1,) * ones + shape, _reshape, _reshape)


def linear(contracted: int = 1) -> AxisMap:
  """[out, in] is our kernel of `contracted` input axes, then output axes."""
  return AxisMap(
    lambda s: (math.prod(s[contracted:]), math.prod(s[:contracted])),
    lambda array, shape: array.T.reshape(shape),
    lambda array, shape: array.reshape(shape[::-1]).T,
  )


SAME = leading(0)
# A bias of several heads: [heads * kv] is our [heads, kv].
FLAT = AxisMap(lambda shape: (math.prod(shape),), _reshape, _reshape)
LINEAR = linear()
# A convolution whose stride is its size: [out, 3, p, p] is our [p, p, 3, out].
CONVOLUTION = AxisMap(
  lambda s: (s[3], s[2], s[0], s[1]),
  lambda array, _: array.transpose(2, 3, 1, 0),
  lambda array, _: array.transpose(3, 2, 0, 1),
)
