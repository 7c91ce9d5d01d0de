"""What a model that is built by hand looks at is what is told."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from looking import CONFIG, IMAGE, PATCH, QUERIES, looking, picture
from stacked import stack_layers

from mmicl_jax.inference.attention import answer_attention
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request
from mmicl_jax.models.attended import look_at_images
from mmicl_jax.models.configs import with_execution
from mmicl_jax.models.mmicl import MMICL, abstract_params


def prompt(*patches):
  tokens = [7]
  for i, _ in enumerate(patches):
    tokens += [8, *[IMAGE] * QUERIES, 9 + i]
  images = tuple(picture(patch, i) for i, patch in enumerate(patches))
  return Request(np.array([*tokens, 1], np.int32), images)


@pytest.fixture(scope='module')
def engine():
  return Engine(CONFIG, looking(), batch_size=4)


@pytest.mark.slow
def test_it_finds_the_image_and_the_patch_that_count(engine):
  prompts = [prompt(0, 0, 255), prompt(255, 0), prompt(0), prompt()]
  found = answer_attention(engine, prompts, [[3, 4], [5], [6, 7, 8], [3]])
  for one, asked, white in zip(found, prompts, ([2], [0], [], []), strict=True):
    assert one.prompt.shape == asked.tokens.shape
    assert one.prompt.sum() == pytest.approx(1, abs=1e-5)
    assert one.images.shape == (len(asked.images), 17)
    visual = one.prompt[asked.tokens == IMAGE].reshape(-1, QUERIES)
    np.testing.assert_allclose(one.images.sum(1), visual.sum(1), atol=1e-6)
    for i in white:  # all of it, and of the image all on one patch
      assert one.images[i].sum() > 0.999
      assert one.images[i].argmax() == 1 + PATCH
      assert one.images[i, 1 + PATCH] > 0.999
    if not white:  # words, all alike
      assert one.images.sum() < 1e-3
      words = one.prompt[asked.tokens != IMAGE]
      np.testing.assert_allclose(words, words[0], atol=1e-6)


@pytest.mark.slow
def test_layers_may_be_stacked():
  rng = np.random.default_rng(3)
  params = jax.tree.map(
    lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), looking()
  )
  images = jnp.asarray(np.stack([picture(255), picture(0, 1)])[None])
  look = jax.jit(look_at_images, static_argnums=0)
  separate = look(MMICL(CONFIG), params, images)
  assert separate.shape == (1, 2, QUERIES, 17)
  np.testing.assert_allclose(separate.sum(-1), 1, atol=1e-5)
  model = MMICL(with_execution(CONFIG, scan_layers=True, remat='full'))
  found = look(model, stack_layers(params), images)
  np.testing.assert_allclose(found, separate, atol=1e-5)


def test_nobody_pays_who_does_not_ask():
  abstract = nn.unbox(abstract_params(CONFIG))
  assert 'attention' not in abstract and 'weights' not in str(abstract)
  images = jnp.zeros((1, 1, 16, 16, 3), jnp.uint8)
  model = MMICL(CONFIG)

  def plain(params):
    return model.apply({'params': params}, images, method='read_images')

  def asked(params):
    return look_at_images(model, params, images)

  assert jax.eval_shape(plain, abstract).shape == (1, 1, QUERIES, 32)
  assert jax.eval_shape(asked, abstract).shape == (1, 1, QUERIES, 17)
