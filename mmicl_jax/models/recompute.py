"""Which activations the backward pass computes again, not keeping them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mmicl_jax.models.configs import Execution

_POLICIES: dict[str, Callable[..., Any] | None] = {
  'minimal': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': None,
}


def recomputed(
  execution: Execution, function: Callable[..., Any]
) -> Callable[..., Any]:
  """`function`, of which remat='light' keeps only the inputs.

  It is for what takes much memory and little time: attention's scores, norms,
  gates and dropout.
  """
  if execution.remat != 'light':
    return function
  return jax.checkpoint(function, prevent_cse=_prevents_cse(execution))


def recomputed_layer(
  execution: Execution, layer: type[nn.Module]
) -> type[nn.Module]:
  """`layer` as remat='minimal' (keeps products) or 'full' runs it."""
  if execution.remat not in _POLICIES:
    return layer
  return nn.remat(
    layer,
    policy=_POLICIES[execution.remat],
    prevent_cse=_prevents_cse(execution),
  )


def _prevents_cse(execution: Execution) -> bool:
  """Whether XLA must be kept from joining both passes' computations.

  Outside a loop XLA would see that the backward pass computes the same values
  again, and keep them instead. A loop separates the two passes.
  """
  return not execution.scan_layers
