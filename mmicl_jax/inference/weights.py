"""Puts a model's parameters on its devices without a second copy in memory.

They come in parts, as a checkpoint is read. Before the next part is read,
stacked layers are separated, kernels quantised if wanted, and all arrays put on
their devices.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from mmicl_jax.models import partitioning, trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.models.quantized import leaf_place, quantize_leaf
from mmicl_jax.models.stacking import single_layers

Parts = Iterable[dict[str, Any]]


def hold_weights(
  parts: Parts,
  config: MMICLConfig,
  *,
  mesh: Mesh | None = None,
  eight_bits: bool = False,
  look: Callable[[Mapping[str, Any]], Any] | None = None,
) -> dict[str, Any]:
  """The tree of all parameters of separate layers, on their devices.

  parts: dicts of arrays by path, with layers stacked or not. They are emptied,
  so that an array that nobody else holds is freed once it is on its devices.
  config: with scan_layers=False. look: called with each part's arrays; with
  eight_bits, with the values that remain after quantisation.
  """
  places: dict[str, Any] = {}
  if mesh is not None:
    shardings = partitioning.shardings(abstract_params(config), mesh)
    places = trees.flatten(shardings)
  held: dict[str, Any] = {}
  for part in parts:
    if look is not None and not eight_bits:
      look(part)
    new: dict[str, Any] = {}
    for path in list(part):
      for name, leaf in single_layers(path, part.pop(path)):
        leaf = quantize_leaf(name, leaf) if eight_bits else leaf
        place = places.get(name, jax.devices()[0])
        new[name] = jax.device_put(leaf, leaf_place(leaf, place))
        # device_put returns before it has copied; without waiting, arrays pile
        # up.
        jax.block_until_ready(new[name])
    if look is not None and eight_bits:
      look(nn.unbox(new))
    held |= new
  return trees.unflatten(held)
