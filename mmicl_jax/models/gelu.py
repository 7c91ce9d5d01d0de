"""GELU by the error function, as PyTorch computes it, in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ROOT_HALF = 0.5**0.5
_DENSITY = 0.3989422804014327  # of the normal distribution at 0: 1/sqrt(2 pi)


@jax.custom_jvp
def gelu(x: Float[Array, '*A']) -> Float[Array, '*A']:
  """x times the normal distribution's share below x, in x's dtype.

  The formula of torch.nn.functional.gelu, whose erf takes XLA half as long as
  the erfc of jax.nn.gelu. All steps are in float32, and only the result is
  rounded. For the backward pass one array is kept, the derivative.
  """
  wide = x.astype(jnp.float32)
  return (wide * _below(wide)).astype(x.dtype)


@gelu.defjvp
def _derivative(primals, tangents):
  [x], [tangent] = primals, tangents
  wide = x.astype(jnp.float32)
  slope = _below(wide) + wide * _DENSITY * jnp.exp(-0.5 * wide * wide)
  return gelu(x), slope.astype(x.dtype) * tangent


def _below(x: Float[Array, '*A']) -> Float[Array, '*A']:
  return 0.5 * (1 + jax.lax.erf(x * _ROOT_HALF))
