"""Attention in plain NumPy."""

import math

import jax
import numpy as np
import pytest

from mmicl_jax.models.configs import Execution
from mmicl_jax.models.layers import Attention


@pytest.mark.parametrize('scaled', [True, False])
def test_scaled_attention_divides_its_scores(scaled, random_like):
  """By sqrt(head_dim): the Q-Former does, T5 does not."""
  layer = Attention(2, 16, Execution(), use_bias=True, scaled=scaled)

  def attend(module, x):
    return module(x, module.project(x))

  inputs = jax.random.normal(jax.random.key(0), (1, 5, 32))
  variables = random_like(
    jax.eval_shape(
      lambda x: layer.init(jax.random.key(1), x, method=attend), inputs
    )
  )
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), variables['params'])
  x = np.asarray(inputs, np.float64)[0]
  y = np.zeros((5, 2, 16))
  for head in range(2):
    query, key, value = (
      x @ p[name]['kernel'][:, head] + p[name]['bias'][head]
      for name in ('query', 'key', 'value')
    )
    weights = np.exp(query @ key.T / (math.sqrt(16) if scaled else 1))
    y[:, head] = weights / weights.sum(-1, keepdims=True) @ value
  expected = np.tensordot(y, p['out']['kernel'], 2) + p['out']['bias']

  got = layer.apply(variables, inputs, method=attend)
  np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-4)
