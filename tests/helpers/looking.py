"""A model whose attention is built by hand.

All parameters are 0, but those that `looking` sets: the Q-Former then looks at
patch 5 alone, and the decoder at images in which this patch is white.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmicl_jax.models import trees
from mmicl_jax.models.configs import TINY, with_execution
from mmicl_jax.models.mmicl import abstract_params

PATCH, QUERIES, IMAGE = 5, 2, 40
CONFIG = with_execution(
  dataclasses.replace(
    TINY,
    vit=dataclasses.replace(TINY.vit, image_size=16, patch_size=4),
    # Ends in half a group.
    qformer=dataclasses.replace(
      TINY.qformer, num_layers=3, num_queries=QUERIES, instruction=False
    ),
    t5=dataclasses.replace(TINY.t5, vocab_size=48),
    image_token=IMAGE,
  ),
  scan_layers=False,
)


def looking(config=CONFIG):
  """The parameters: units 0 to 2 say 'patch 5', 'white', 'a word'."""

  def empty(path, leaf):
    fill = np.ones if path[-1].key == 'scale' else np.zeros
    return fill(leaf.shape, np.float32)  # to be written into

  abstract = nn.unbox(abstract_params(config))
  params = jax.tree_util.tree_map_with_path(empty, abstract)
  for path, leaf in trees.flatten(params).items():
    side = path.split('/')[0]
    if path == 'vit/patch_embedding/kernel':
      leaf[..., 1] = 1 / (4 * 4 * 3)
    elif path == 'vit/position_embedding':
      leaf[1 + PATCH, 0] = 10
    elif side == 'qformer' and '/cross_attention/' in path:
      if path.endswith('query/bias'):
        leaf[:, 0] = 30
      elif path.endswith('key/kernel'):
        leaf[0, :, 0] = 30
      elif path.endswith('value/kernel'):
        leaf[1, 0, 0] = 1
      elif path.endswith('out/kernel'):
        leaf[0, 0, 1] = 1
    elif path == 'projector/kernel':
      leaf[1, 1] = 1
    elif path == 't5/token_embedder/embedding':
      leaf[:, 2] = 1
    elif side == 't5' and path.endswith('cross_attention/query/kernel'):
      leaf[2, :, 0] = 3
    elif side == 't5' and path.endswith('cross_attention/key/kernel'):
      leaf[1, :, 0] = 3
  return jax.tree.map(jnp.asarray, params)


def picture(patch, seed=0):
  """Noise, with patch 5 black or white."""
  pixels = np.random.default_rng(seed).integers(60, 190, (16, 16, 3), np.uint8)
  row, column = divmod(PATCH, 4)
  pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = patch
  return pixels
