"""Parameters of single layers as those of a model that scans over them."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmicl_jax.models.stacking import STACKS

_MEMBER = re.compile(rf'({"|".join(STACKS)})_(\d+)')


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
