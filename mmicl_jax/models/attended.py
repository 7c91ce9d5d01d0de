"""What the answer's tokens attend to, and what the Q-Former looks at.

Attention modules give their weights to whoever makes the collection of layers'
ATTENTION mutable, as the two functions here do. Each is a program of its own:
nothing is computed or kept where nobody asks.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmicl_jax.models import trees
from mmicl_jax.models.layers import ATTENTION
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.types import Images


def cross_attention(state: Mapping[str, Any]) -> Float[Array, 'B T S']:
  """The mean weights of all cross-attentions over layers and heads.

  state: the collections that Module.apply returns beside its result; layers may
  be stacked or separate. Each row of S sums to 1.
  """
  found = [
    # Stacked layers have an axis in front of [B, H, T, S].
    weights.reshape(-1, *weights.shape[-4:])
    for path, (weights,) in trees.flatten(state[ATTENTION]).items()
    if 'cross_attention' in path.split('/')
  ]
  return jnp.concatenate(found).mean((0, 2))


def look_at_images(
  model: MMICL,
  params: Any,
  images: Images,
  words: Int[Array, 'B S'] | None = None,
) -> Float[Array, 'B N Q P']:
  """How much each query of the Q-Former attends to the patches of its image.

  P counts the class token first. images, words: see MMICL.read_images.
  """
  seen, state = model.apply(
    {'params': params},
    images,
    words,
    method='read_images',
    mutable=[ATTENTION],
  )
  found = cross_attention(state)
  return found.reshape(*seen.shape[:3], -1)
