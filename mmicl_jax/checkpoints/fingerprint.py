"""Hashes of weights, which name the model that something was computed by.

The Q-Former's output for an image depends on the image, on the instruction if
it reads one, and on the sizes and weights of ViT, Q-Former and query tokens.
Every store of features holds a fingerprint of the latter, so that no model
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
from mmicl_jax.runtime import small_arrays

TOWERS = ('vit', 'qformer', 'query_tokens')


class TowerSums:
  """Checksums of the towers, from parameters that come in parts."""

  def __init__(self):
    self._exact: dict[str, int] = {}
    self._rounded: dict[str, int] = {}

  def add(self, flat: Mapping[str, Any]) -> None:
    """Adds the towers' arrays among `flat`, which has arrays by path."""
    towers = {p: x for p, x in flat.items() if p.split('/')[0] in TOWERS}
    self._exact |= checksums.of(towers)
    self._rounded |= _rounded_sums(towers)

  def features_index(self, config: configs.MMICLConfig) -> dict[str, Any]:
    """The same as the function of this name for all parameters."""
    return _index(config, _named(config, self._rounded))

  def digest(self, *settings: str) -> str:
    """The same as `weights_digest` for the towers."""
    named = {
      ''.join(f'[{part!r}]' for part in path.split('/')): value
      for path, value in self._exact.items()
    }
    return _hexadecimal([settings, named])


def fingerprint(config: configs.MMICLConfig, params: Mapping[str, Any]) -> str:
  """A hash of the towers' sizes and of their weights rounded to bfloat16."""
  towers = trees.flatten({n: params[n] for n in TOWERS})
  return _named(config, _rounded_sums(towers))


def features_index(
  config: configs.MMICLConfig, params: Mapping[str, Any]
) -> dict[str, Any]:
  """The index of a store of features: which model computes them, and how."""
  return _index(config, fingerprint(config, params))


def weights_digest(params: Any, *settings: str) -> str:
  """A hash of every bit of the weights, and of other settings that matter."""
  flat = {
    jax.tree_util.keystr(path): x
    for path, x in jax.tree.leaves_with_path(params)
  }
  return _hexadecimal([settings, checksums.of(flat)])


def saved_digest(sums: Mapping[str, int]) -> str:
  """A hash of a checkpoint's weights, from the checksums saved with them."""
  own = {name: x for name, x in sums.items() if name.startswith('target/')}
  return _hexadecimal(own)


def _rounded_sums(towers: Mapping[str, Any]) -> dict[str, int]:
  return checksums.of({name: _rounded(x) for name, x in towers.items()})


def _rounded(x: Any) -> Any:
  values = small_arrays.values_of(x)
  return (x if values is None else values).astype(jnp.bfloat16)


def _named(config: configs.MMICLConfig, sums: Mapping[str, int]) -> str:
  sizes = configs.to_dict(config)
  described = {
    'vit': sizes['vit'],
    # Dropout and the room for words do not change the features.
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
