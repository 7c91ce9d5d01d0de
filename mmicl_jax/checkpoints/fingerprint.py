"""Which weights are these? Names for them, and for what is computed from them.

What the Q-Former gives for an image depends on the image, on the instruction if
it reads one, and on the sizes and weights of ViT, Q-Former and query tokens.
The fingerprint of these stands in every store of features, so that no model
reads another one's.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
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
  return _hexadecimal(described)


def features_index(
  config: configs.MMICLConfig, params: Mapping[str, Any]
) -> dict[str, Any]:
  """What a store of features says of the model that computes them."""
  return {
    'fingerprint': fingerprint(config, params),
    'queries': config.qformer.num_queries,
    'width': config.qformer.hidden_size,
    'dtype': config.execution.dtype,
  }


def weights_digest(params: Any, *settings: str) -> str:
  """Of every bit of the weights, and of settings that matter beside them."""
  flat = {
    jax.tree_util.keystr(path): x
    for path, x in jax.tree.leaves_with_path(params)
  }
  return _hexadecimal([settings, checksums.of(flat)])


def saved_digest(sums: Mapping[str, int]) -> str:
  """Of the weights of a checkpoint, from the sums that were saved with it."""
  own = {name: x for name, x in sums.items() if name.startswith('target/')}
  return _hexadecimal(own)


def _hexadecimal(described: Any) -> str:
  text = json.dumps(described, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
