"""Two forms of one parameter tree: layers stacked on an axis, or separate.

Training scans over stacked layers, so that only one is traced and compiled.
Generation loops over separate layers, so that no step slices weights or caches.
"""

from collections.abc import Mapping
from typing import Any

import jax

STACKS = ('layers', 'groups')  # the names that models.layers.stack is given


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
  """{'layers': a[L, ...]} -> {'layers_0': a[0], ...}, at every depth."""
  result = {}
  for name, value in params.items():
    if not isinstance(value, Mapping):
      result[name] = value
    elif name in STACKS:
      for i in range(len(jax.tree.leaves(value)[0])):
        result[f'{name}_{i}'] = jax.tree.map(lambda x, i=i: x[i], value)
    else:
      result[name] = unstack_layers(value)
  return result
