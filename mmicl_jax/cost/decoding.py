"""The bytes that a decoding step must read: weights, and keys and values.

A step multiplies each weight of the decoder with few rows, so what it takes is
the time of reading them. Keys and values of the prompt are made once a prompt,
and their kernels are read then, not in each step.
"""

import math
import re

import flax.linen as nn

from mmicl_jax.cost.flops import Lengths
from mmicl_jax.models import mmicl, trees
from mmicl_jax.models.configs import MMICLConfig

_STEP = re.compile(r'^t5/(decoder/(?!.*/cross_attention/(key|value)/)|lm_head)')


def step_bytes(
  config: MMICLConfig,
  lengths: Lengths,
  *,
  prompts: int,
  beams: int = 1,
  itemsize: int,
) -> int:
  """Bytes that one step reads at the least, for all rows of a batch.

  lengths: of a prompt's tokens and of an answer's, of which a step finds half
  decoded, on average. Beams share the keys of their prompt. itemsize: bytes of
  a weight, key or value.
  """
  flat = trees.flatten(nn.unbox(mmicl.abstract_params(config)))
  weights = sum(math.prod(x.shape) for p, x in flat.items() if _STEP.search(p))
  t5 = config.t5
  keys = 2 * t5.num_heads * t5.head_dim * t5.num_decoder_layers
  read = prompts * lengths.inputs + prompts * beams * lengths.targets / 2
  return round((weights + keys * read) * itemsize)
