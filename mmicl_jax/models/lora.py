"""Low-rank adapters in a tree of parameters: splitting off and folding in.

A Dense whose path matches `LoRA.on` has lora_a [in, rank] and lora_b
[rank, out] beside its kernel and adds x a b alpha / rank (Hu et al., 2021,
arXiv 2106.09685). Folded into the kernel they cost no time, and PyTorch and
quantisation need no code for them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mmicl_jax.models import configs, trees

_LEAF = re.compile(r'/lora_[ab]$')


def split_adapters(params: Mapping[str, Any]) -> tuple[dict, dict]:
  """Splits a tree of parameters into (all but the adapters, the adapters)."""
  flat = trees.flatten(params)
  rest, adapters = {}, {}
  for path, x in flat.items():
    (adapters if _LEAF.search(path) else rest)[path] = x
  return trees.unflatten(rest), trees.unflatten(adapters)


def folded(
  config: configs.MMICLConfig,
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  read: Callable[[str], Any],
) -> tuple[
  configs.MMICLConfig,
  dict[str, jax.ShapeDtypeStruct],
  Callable[[str], np.ndarray],
]:
  """The same model with its adapters folded in, as (config, shapes, reader).

  shapes: of each parameter, by path. read, and the reader returned: path ->
  array, so that the whole model need not fit in memory. Kernels that had
  adapters become float32, since bfloat16, in which frozen kernels are kept, is
  too coarse for what the adapters add.
  """
  lora = config.execution.lora
  if lora is None:
    return config, dict(shapes), read

  def adapted(path: str) -> bool:
    module = path.removesuffix('kernel')
    return path.endswith('/kernel') and f'{module}lora_a' in shapes

  kept = {
    path: jax.ShapeDtypeStruct(x.shape, np.float32) if adapted(path) else x
    for path, x in shapes.items()
    if not _LEAF.search(path)
  }

  def one(path: str) -> np.ndarray:
    kernel = np.asarray(read(path))
    if not adapted(path):
      return kernel
    module = path.removesuffix('kernel')
    a, b = (
      np.asarray(read(module + name), np.float32)
      for name in ('lora_a', 'lora_b')
    )
    stacked = a.ndim + b.ndim - 2 - kernel.ndim  # 1 if layers are stacked
    if stacked:
      low = np.stack([np.tensordot(x, y, 1) for x, y in zip(a, b, strict=True)])
    else:
      low = np.tensordot(a, b, 1)
    return kernel.astype(np.float32) + low * (lora.alpha / lora.rank)

  return configs.with_execution(config, lora=None), kept, one
