"""Two forms of one parameter tree: layers stacked on an axis, or separate.

Training scans over stacked layers, so that only one is traced and compiled.
Generation loops over separate layers, so that no step slices weights or caches.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mmicl_jax.models import trees

STACKS = ('layers', 'groups')  # the names that models.layers.stack is given


def single_layers(path: str, x: Any) -> Iterator[tuple[str, Any]]:
  """('t5/layers/bias', x[L, ...]) -> ('t5/layers_0/bias', x[0]), and so on.

  A parameter that is not stacked is returned unchanged.
  """
  parts = path.split('/')
  at = next((i for i, name in enumerate(parts) if name in STACKS), None)
  if at is None:
    yield path, x
    return
  for i in range(len(x)):
    yield '/'.join([*parts[:at], f'{parts[at]}_{i}', *parts[at + 1 :]]), x[i]


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
  """{'layers': a[L, ...]} -> {'layers_0': a[0], ...}, at every depth."""
  return trees.unflatten(
    dict(
      layer
      for path, x in trees.flatten(params).items()
      for layer in single_layers(path, x)
    )
  )
