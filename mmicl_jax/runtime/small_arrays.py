"""Small arrays of a CPU, which NumPy reads sooner than a program is compiled.

A model has dozens of shapes of parameters, and each would need a program of its
own, which takes longer to compile than all small arrays take to be read.
"""

from typing import Any

import numpy as np

MOST = 2**18  # values; larger arrays are worth a program


def values_of(x: Any) -> np.ndarray | None:
  """A small array's values, if they lie in this process's memory; else None.

  Of a jax.Array they are a view. It is not kept by `x`, whose memory may be
  given to another array as soon as the view is gone.
  """
  if not hasattr(x, 'size') or x.size > MOST:  # a number of Python has none
    return None
  if isinstance(x, np.ndarray | np.generic):
    return np.asarray(x)
  places = x.devices()
  if len(places) > 1 or next(iter(places)).platform != 'cpu':
    return None
  if not x.is_fully_addressable:  # another process's CPU
    return None
  return np.asarray(x.addressable_shards[0].data)
