"""Two forms of one parameter tree: layers stacked on an axis, or one by one.

Training scans over stacked layers, so that one is traced and compiled.
Generation loops over single layers, whose weights and caches need not be sliced
at every step.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

STACKS = ('layers', 'groups')  # the names that models.layers.stack is given
_MEMBER = re.compile(rf'({"|".join(STACKS)})_(\d+)')


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


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `unstack_layers`."""
  result, members = {}, {}
  for name, value in params.items():
    if match := _MEMBER.fullmatch(name):
      members.setdefault(match[1], {})[int(match[2])] = value
    else:
      nested = isinstance(value, Mapping)
      result[name] = stack_layers(value) if nested else value
  for name, layers in members.items():
    ordered = [layers[i] for i in range(len(layers))]
    result[name] = jax.tree.map(lambda *xs: jnp.stack(xs), *ordered)
  return result
