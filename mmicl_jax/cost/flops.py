"""Model FLOPs: what a step must compute, from the parameters and the lengths.

A matrix product M x K x N counts as 2 M K N. Each kernel is multiplied with a
known number of rows of each example, so the cost follows from the tree of
parameters, plus attention's two products. The gradient of activations counts
as one more forward pass through the layers that it crosses. Norms, biases,
softmax and recomputed activations do not count.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable

import flax.linen as nn

from mmicl_jax.models import mmicl, trees
from mmicl_jax.models.configs import MMICLConfig


@dataclasses.dataclass(frozen=True)
class Lengths:
  """The lengths of one example: tokens, images, and the Q-Former's words."""

  inputs: int = 512
  targets: int = 128
  images: int = 4
  instruction: int = 0


def forward(config: MMICLConfig, lengths: Lengths) -> dict[str, int]:
  """FLOPs of one example's forward pass, for each part of the model."""
  total = {'vit': 0, 'qformer': 0, 'projector': 0, 't5': 0}
  for path, size in _kernels(config).items():
    total[path.split('/')[0]] += 2 * size * _rows(path, config, lengths)
  for tower, products in _attention(config, lengths).items():
    total[tower] += products
  return total


def train_step_flops(
  config: MMICLConfig, trainable: Iterable[str], lengths: Lengths
) -> int:
  """FLOPs of one example's training step.

  They are those of the forward pass, of the gradient of activations (from the
  loss back to the first part that trains) and of each trainable kernel's
  gradient. trainable: the paths of the parameters that train, as
  `trees.flatten` names them.
  """
  parts = forward(config, lengths)
  paths = set(trainable)
  tops = {path.split('/')[0] for path in paths}
  crossed = ['t5']  # from the loss back to the first layer
  if tops & {'vit', 'qformer', 'query_tokens'}:
    crossed += ['projector', 'qformer']
  if 'vit' in tops:
    crossed.append('vit')
  weights = sum(
    2 * size * _rows(path, config, lengths)
    for path, size in _kernels(config).items()
    if path in paths
  )
  return sum(parts.values()) + sum(parts[name] for name in crossed) + weights


@functools.cache
def _kernels(config: MMICLConfig) -> dict[str, int]:
  """The sizes of kernels and adapters by path; scanned layers count as one."""
  params = nn.unbox(mmicl.abstract_params(config))
  flat = trees.flatten(params)
  return {
    path: math.prod(x.shape)
    for path, x in flat.items()
    if re.search('/(kernel|lora_[ab])$', path)
  }


def _rows(path: str, config: MMICLConfig, lengths: Lengths) -> int:
  """The number of rows of one example that a kernel is multiplied with."""
  images = lengths.images
  patches, queries = config.vit.num_patches, config.qformer.num_queries
  rules = (
    (r'^vit/patch_embedding/', images * patches),
    (r'^vit/', images * (patches + 1)),
    (r'^qformer/.*/cross_attention/(key|value)/', images * (patches + 1)),
    (r'^qformer/.*/self_attention/', images * (queries + lengths.instruction)),
    (r'^qformer/.*/text_mlp', images * lengths.instruction),
    (r'^(qformer|projector)/', images * queries),
    (r'^t5/encoder/', lengths.inputs),
    (r'^t5/decoder/.*/cross_attention/(key|value)/', lengths.inputs),
    (r'^t5/', lengths.targets),
  )
  return next(rows for pattern, rows in rules if re.search(pattern, path))


def _attention(config: MMICLConfig, lengths: Lengths) -> dict[str, int]:
  """FLOPs of attention's scores and weighted sums: 4 x rows x keys x width."""
  vit, qformer, t5 = config.vit, config.qformer, config.t5
  patches = vit.num_patches + 1
  joint = qformer.num_queries + lengths.instruction
  crossings = -(-qformer.num_layers // qformer.cross_attention_frequency)
  inputs, targets = lengths.inputs, lengths.targets
  width = t5.num_heads * t5.head_dim
  return {
    'vit': lengths.images * 4 * patches**2 * vit.hidden_size * vit.num_layers,
    'qformer': lengths.images
    * 4
    * qformer.hidden_size
    * (
      qformer.num_layers * joint**2 + crossings * qformer.num_queries * patches
    ),
    't5': 4
    * width
    * (
      t5.num_encoder_layers * inputs**2
      + t5.num_decoder_layers * targets * (targets + inputs)
    ),
  }
