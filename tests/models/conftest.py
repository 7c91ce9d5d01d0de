"""A tiny model whose every parameter matters, and batches for it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import abstract_params

# Different depths everywhere, and a Q-Former that ends in half a group.
CONFIG = dataclasses.replace(
  configs.TINY,
  qformer=dataclasses.replace(configs.TINY.qformer, num_layers=3),
  t5=dataclasses.replace(configs.TINY.t5, num_decoder_layers=3, vocab_size=160),
  image_token=100,
)


def random_like(abstract, seed=0):
  """Parameters of these shapes; no bias is 0, no scale 1, nothing compiled."""
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    noise = rng.standard_normal(leaf.shape)
    name = path[-1].key
    if name == 'kernel':
      noise /= np.sqrt(32)  # the widths here are 32 and 64
    elif name == 'scale':
      noise = 1 + 0.2 * noise
    else:
      noise *= 0.5
    return jnp.array(noise, leaf.dtype)

  return jax.tree_util.tree_map_with_path(one, nn.unbox(abstract))


@pytest.fixture(scope='session')
def config():
  return CONFIG


@pytest.fixture(scope='session')
def params():
  return random_like(abstract_params(CONFIG))


@pytest.fixture(scope='session', name='random_like')
def random_like_fixture():
  return random_like


@pytest.fixture(scope='session')
def make_batch():
  """make_batch(rows, images): prompts that name each image, then ask."""

  def make(rows=2, images=2, seed=0, target=5, words=6):
    c = CONFIG
    rng = np.random.default_rng(seed)
    size, queries = c.vit.image_size, c.qformer.num_queries

    def integers(low, high, shape):
      return jnp.array(rng.integers(low, high, shape), jnp.int32)

    prompt = []
    for i in range(images):
      name = jnp.full((rows, 1), c.image_token + 1 + i)
      prompt += [name, jnp.full((rows, queries), c.image_token)]
    prompt.append(integers(2, 100, (rows, words)))
    targets = integers(2, 100, (rows, target))
    pixels = rng.integers(0, 256, (rows, images, size, size, 3), 'uint8')
    return {
      'encoder_input_tokens': jnp.concatenate(prompt, axis=1),
      'encoder_images': jnp.array(pixels),
      'decoder_input_tokens': jnp.pad(targets[:, :-1], ((0, 0), (1, 0))),
      'decoder_target_tokens': targets,
      'decoder_loss_weights': jnp.ones_like(targets),
      'qformer_input_tokens': integers(1, c.qformer.vocab_size, (rows, 3)),
    }

  return make
