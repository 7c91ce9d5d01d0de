"""Whose features are these? What the frozen towers' outputs depend on.

The Q-Former's output, without instruction text and dropout, is a function of
the image and of the sizes and weights of ViT, Q-Former and query tokens.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmicl_jax.checkpoints import checksums
from mmicl_jax.models import configs, trees

TOWERS = ('vit', 'qformer', 'query_tokens')


def fingerprint(config: configs.MMICLConfig, params: Mapping[str, Any]) -> str:
  """Of the towers' sizes and weights, these rounded to bfloat16."""
  towers = {
    name: x.astype(jnp.bfloat16)
    for name, x in trees.flatten({n: params[n] for n in TOWERS}).items()
  }
  sizes = configs.to_dict(config)
  described = {
    'vit': sizes['vit'],
    # Neither dropout nor the room for words plays a part.
    'qformer': {
      name: x
      for name, x in sizes['qformer'].items()
      if name not in ('dropout_rate', 'vocab_size', 'max_positions')
    },
    'weights': checksums.of(towers),
  }
  text = json.dumps(described, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
