"""The vision tower's patches and positions."""

import dataclasses

import jax
import numpy as np
import pytest

from mmicl_jax.models import configs
from mmicl_jax.models.vit import ViT

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


def test_epsilon_of_the_norms_is_a_choice(tower):
  model, variables, images = tower
  other = ViT(dataclasses.replace(CONFIG, layer_norm_eps=1e-1), RUN)
  difference = model.apply(variables, images) - other.apply(variables, images)
  assert np.abs(difference).max() > 1e-3
