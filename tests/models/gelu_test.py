"""GELU: PyTorch's formula, in float32 whatever its input is.

Below -3 the formula itself loses up to 8e-7, as in PyTorch.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models.gelu import gelu

DTYPES = pytest.mark.parametrize(
  'dtype, step', [('float32', 4e-7), ('bfloat16', 2**-8)]
)
X = np.linspace(-9, 9, 3001, dtype=np.float32)


def exact(x):
  return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def slope(x):
  density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
  return 0.5 * (1 + math.erf(x / math.sqrt(2))) + x * density


@DTYPES
def test_values_are_rounded_once(dtype, step):
  x = jnp.asarray(X, dtype)
  y = gelu(x)
  assert y.dtype == dtype
  given = np.asarray(x.astype(jnp.float32), np.float64)
  wanted = np.vectorize(exact)(given)
  error = np.abs(np.asarray(y.astype(jnp.float32)) - wanted)
  assert (error <= step * np.abs(wanted) + 8e-7).all()


@DTYPES
def test_gradients_are_rounded_once(dtype, step):
  x = jnp.asarray(X, dtype)
  gradient = jax.grad(lambda x: gelu(x).astype(jnp.float32).sum())(x)
  assert gradient.dtype == dtype
  given = np.asarray(x.astype(jnp.float32), np.float64)
  wanted = np.vectorize(slope)(given)
  error = np.abs(np.asarray(gradient.astype(jnp.float32)) - wanted)
  assert (error <= step * np.abs(wanted) + 1e-6).all()


def test_the_backward_pass_keeps_one_array():
  x = jnp.ones(8)
  _, pullback = jax.vjp(gelu, x)
  kept = [y for y in jax.tree.leaves(pullback) if jnp.shape(y) == (8,)]
  assert len(kept) == 1
