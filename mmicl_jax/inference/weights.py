"""Parameters as an engine holds them, of which two copies are never in memory.

They come some at a time, as a checkpoint is read. Stacked layers are cut apart,
kernels quantised where that is asked for, and each array goes to its devices,
before the next ones are read.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding

from mmicl_jax.models import partitioning, trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.models.quantized import Quantized, quantize_leaf
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
  """The tree of all parameters, one array a layer, on its devices.

  parts: dicts of arrays by path, layers stacked or not; they are emptied, so
  that an array which nobody else holds is freed when it has been placed.
  config: with layers that are not stacked. look: is shown each part's arrays,
  as they came, or as their eight bits stand for them.
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
        new[name] = jax.device_put(leaf, _place_of(leaf, place))
        # device_put returns before it has copied: wait, or copies pile up.
        jax.block_until_ready(new[name])
    if look is not None and eight_bits:
      look(nn.unbox(new))
    held |= new
  return trees.unflatten(held)


def _place_of(leaf: Any, place: Any) -> Any:
  """Where a leaf goes whose values go to `place`.

  The scales of a quantised kernel are small: they go to every device.
  """
  if isinstance(leaf, Quantized) and isinstance(place, NamedSharding):
    return Quantized(place, partitioning.replicated(place.mesh))
  return place
