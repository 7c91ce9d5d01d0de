"""The vision tower's patches and positions."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from mmicl_jax.models import configs, vit
from mmicl_jax.models.vit import ViT, ViTLayer

RUN = configs.Execution()
CONFIG = dataclasses.replace(configs.TINY.vit, num_layers=1)


@pytest.fixture
def tower(random_like):
  images = jax.random.normal(jax.random.key(0), (2, 28, 28, 3))
  model = ViT(CONFIG, RUN)
  variables = jax.eval_shape(model.init, jax.random.key(1), images)
  return model, random_like(variables), images


def test_the_class_token_comes_before_a_token_a_patch(tower):
  model, variables, images = tower
  assert model.apply(variables, images).shape == (2, 1 + 4, 32)


def test_patches_are_a_convolution_with_stride(tower):
  """The layout that convert relies on: kernel as [rows, columns, RGB, out]."""
  model, variables, images = tower
  layer = variables['params']['patch_embedding']
  expected = jax.lax.conv_general_dilated(
    images,
    layer['kernel'],
    window_strides=(14, 14),
    padding='VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  _, state = model.apply(
    variables,
    images,
    capture_intermediates=lambda module, _: module.name == 'patch_embedding',
  )
  got = state['intermediates']['patch_embedding']['__call__'][0]
  np.testing.assert_allclose(
    got, expected.reshape(2, 4, 32) + layer['bias'], rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize('on_cpu', [True, False])
def test_a_layer_is_what_its_formula_says(random_like, monkeypatch, on_cpu):
  """In plain NumPy, head by head; scores are divided by sqrt(head size)."""
  inputs = jax.random.normal(jax.random.key(0), (2, 5, 32))
  monkeypatch.setattr(vit, 'for_cpu', lambda: on_cpu)
  layer = ViTLayer(CONFIG, RUN)
  variables = random_like(jax.eval_shape(layer.init, jax.random.key(1), inputs))
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), variables['params'])
  x = np.asarray(inputs, np.float64)
  heads, size = CONFIG.num_heads, 32 // CONFIG.num_heads

  def norm(x, weights):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + CONFIG.layer_norm_eps
    )
    return x * weights['scale'] + weights['bias']

  def dense(x, weights, contracted=1):
    return np.tensordot(x, weights['kernel'], contracted) + weights['bias']

  qkv = dense(norm(x, p['pre_attention_norm']), p['qkv'])  # 2 5 (q k v) H K
  y = np.zeros((2, 5, heads, size))
  for row in range(2):
    for head in range(heads):
      query, key, value = (qkv[row, :, i, head] for i in range(3))
      weights = np.exp(query @ key.T / math.sqrt(size))
      y[row, :, head] = weights / weights.sum(-1, keepdims=True) @ value
  x = x + dense(y, p['out'], 2)
  y = dense(norm(x, p['pre_mlp_norm']), p['wi'])
  y *= (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
  expected = x + dense(y, p['wo'])

  got, _ = layer.apply(variables, inputs)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
  # Only a CPU divides after the product with values.
  text = str(jax.make_jaxpr(lambda x: layer.apply(variables, x))(inputs))
  assert (f'f32[2,5,{heads},{size}] = div' in text) == on_cpu
  assert (f'f32[2,{heads},5,5] = div' in text) != on_cpu


def test_epsilon_of_the_norms_is_a_choice(tower):
  model, variables, images = tower
  other = ViT(dataclasses.replace(CONFIG, layer_norm_eps=1e-1), RUN)
  difference = model.apply(variables, images) - other.apply(variables, images)
  assert np.abs(difference).max() > 1e-3
