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


class TowerSums:
  """Sums of the towers' bits, of parameters that come some at a time."""

  def __init__(self):
    self._exact: dict[str, int] = {}
    self._rounded: dict[str, int] = {}

  def add(self, flat: Mapping[str, Any]) -> None:
    """flat: arrays by path, of towers and others."""
    towers = {p: x for p, x in flat.items() if p.split('/')[0] in TOWERS}
    self._exact |= checksums.of(towers)
    self._rounded |= _rounded_sums(towers)

  def features_index(self, config: configs.MMICLConfig) -> dict[str, Any]:
    """As the function of this name gives it for all parameters."""
    return _index(config, _named(config, self._rounded))

  def digest(self, *settings: str) -> str:
    """As `weights_digest` gives it for the towers."""
    named = {
      ''.join(f'[{part!r}]' for part in path.split('/')): value
      for path, value in self._exact.items()
    }
    return _hexadecimal([settings, named])


def fingerprint(config: configs.MMICLConfig, params: Mapping[str, Any]) -> str:
  """Of the towers' sizes and weights, these rounded to bfloat16."""
  towers = trees.flatten({n: params[n] for n in TOWERS})
  return _named(config, _rounded_sums(towers))


def features_index(
  config: configs.MMICLConfig, params: Mapping[str, Any]
) -> dict[str, Any]:
  """What a store of features says of the model that computes them."""
  return _index(config, fingerprint(config, params))


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


def _rounded_sums(towers: Mapping[str, Any]) -> dict[str, int]:
  return checksums.of({n: x.astype(jnp.bfloat16) for n, x in towers.items()})


def _named(config: configs.MMICLConfig, sums: Mapping[str, int]) -> str:
  sizes = configs.to_dict(config)
  described = {
    'vit': sizes['vit'],
    # Neither dropout nor the room for words plays a part.
    'qformer': {
      name: x
      for name, x in sizes['qformer'].items()
      if name not in ('dropout_rate', 'vocab_size', 'max_positions')
    },
    'weights': sums,
  }
  return _hexadecimal(described)


def _index(config: configs.MMICLConfig, name: str) -> dict[str, Any]:
  return {
    'fingerprint': name,
    'queries': config.qformer.num_queries,
    'width': config.qformer.hidden_size,
    'dtype': config.execution.dtype,
  }


def _hexadecimal(described: Any) -> str:
  text = json.dumps(described, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
