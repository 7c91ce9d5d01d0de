"""The matrix products of all towers, in the arithmetic that is fast.

An accelerator gets the product that it was asked for. On a CPU that multiplies
bfloat16, XLA has fast kernels for it only where the result is float32: it is
rounded afterwards. On any other CPU both operands are widened first, which XLA
does once for a kernel, before a loop over tokens.
"""

import functools
import math
import string
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmicl_jax.cpu import multiplies_bfloat16
from mmicl_jax.models.quantized import Quantized

# A single row takes XLA's other, scalar way. As many rows as this take no
# longer than two.
ROWS = 8
# Products in eight bits: for how many rows reading the weights takes longer
# than arithmetic, how many terms of eight bits a row of each dtype needs, and
# by how much each term is finer than the one before.
FEW = 64
TERMS = {'float32': 3, 'bfloat16': 2, 'float16': 2}
STEP = 254


def product(
  equation: str,
  a: Float[Array, '...'],
  b: Float[Array, '...'],
  dtype: Any = None,
) -> Float[Array, '...']:
  """The einsum of two arrays; its sums are at least in the result's dtype.

  equation: letters alone, such as 'btd,df->btf', none of which is in just one
  of the three parts. dtype: of the result; that of `a` and `b` by default.
  """
  dtype = jnp.result_type(a, b) if dtype is None else jnp.dtype(dtype)
  if not for_cpu():
    return jnp.einsum(equation, a, b, preferred_element_type=dtype)
  if dtype == a.dtype == b.dtype == jnp.bfloat16:
    return _rounded(equation, a, b)
  return _sums(equation, a, b, dtype)


def times_kernel(
  x: Float[Array, '...'],
  kernel: Float[Array, '...'] | Quantized,
  contracted: int,
) -> Float[Array, '...']:
  """x times a kernel, over the last `contracted` axes of x, in x's dtype.

  On a CPU there is no gradient through a kernel in eight bits.
  """
  if isinstance(kernel, Quantized):
    if for_cpu() and math.prod(x.shape[:-contracted]) <= FEW:
      return _in_eight_bits(x, kernel, contracted)
    kernel = kernel.unbox()
  letters = string.ascii_letters[: x.ndim + kernel.ndim - contracted]
  kept = x.ndim - contracted
  left, right = letters[: x.ndim], letters[kept:]
  out = letters[:kept] + letters[x.ndim :]
  return product(f'{left},{right}->{out}', x, kernel.astype(x.dtype))


def for_cpu() -> bool:
  """Whether the program that is traced now will run on a CPU."""
  # A mesh may have devices that are not here: `mmicl compile` describes TPUs.
  device = jax.sharding.get_abstract_mesh().abstract_device
  return 'cpu' == (jax.default_backend() if device is None else device.platform)


def _sums(
  equation: str, a: Float[Array, '...'], b: Float[Array, '...'], dtype: Any
) -> Float[Array, '...']:
  """The einsum, as a CPU does it fast."""
  left, right, out = _letters(equation)
  # Where `a` must be transposed, XLA makes that a part of the product, for
  # which there is no kernel, and which fails when it is run.
  wide = left[-1] in out or not multiplies_bfloat16()
  if wide and a.dtype == jnp.bfloat16:
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  both = [x for x in left if x in right and x in out]
  alone = [x for x in left if x not in right]
  # Any other order costs more than the transposition.
  kept = ''.join(
    both + alone + [x for x in right if x in out and x not in left]
  )
  one = alone and math.prod(a.shape[left.index(x)] for x in alone) == 1
  if one and a.dtype == jnp.bfloat16:
    a = jnp.pad(a, [(0, (ROWS - 1) * (x == alone[-1])) for x in left])
  y = jnp.einsum(f'{left},{right}->{kept}', a, b, preferred_element_type=dtype)
  if one:
    y = jax.lax.slice_in_dim(y, 0, 1, axis=kept.index(alone[-1]))
  return y.transpose([kept.index(x) for x in out])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded(
  equation: str, a: Float[Array, '...'], b: Float[Array, '...']
) -> Float[Array, '...']:
  """The product of bfloat16, added up in float32 and then rounded."""
  return _sums(equation, a, b, jnp.float32).astype(b.dtype)


def _forward(equation, a, b):
  return _rounded(equation, a, b), (a, b)


def _backward(equation, operands, cotangent):
  """Both gradients are such products.

  JAX would multiply a cotangent of float32 with operands of bfloat16, for which
  there is no kernel.
  """
  left, right, out = _letters(equation)
  a, b = operands
  return (
    _rounded(f'{out},{right}->{left}', cotangent, b),
    _rounded(f'{left},{out}->{right}', a, cotangent),
  )


_rounded.defvjp(_forward, _backward)


def _in_eight_bits(
  x: Float[Array, '...'], kernel: Quantized, contracted: int
) -> Float[Array, '...']:
  """x times a kernel whose eight bits are multiplied as they are.

  Each row becomes a sum of TERMS rows of eight bits, so that no more is lost
  than by its own dtype. Sums of their products are exact.
  """
  kept = x.shape[: x.ndim - contracted]
  features = kernel.values.shape[contracted:]
  inputs = math.prod(x.shape[-contracted:])
  rows = x.reshape(-1, inputs).astype(jnp.float32)
  most = jnp.abs(rows).max(-1, keepdims=True)
  rest = rows / jnp.where(most > 0, most, 1) * 127
  terms = []
  for _ in range(TERMS[x.dtype.name]):
    terms.append(jnp.round(rest))
    rest = (rest - terms[-1]) * STEP
  sums = jnp.tensordot(
    jnp.stack(terms).astype(jnp.int8),
    kernel.values.reshape(inputs, -1),
    1,
    preferred_element_type=jnp.int32,
  ).astype(jnp.float32)
  y = sums[-1]
  for larger in sums[-2::-1]:
    y = larger + y / STEP
  y *= most / 127 * kernel.scale.astype(jnp.float32).reshape(1, -1)
  return y.reshape(*kept, *features).astype(x.dtype)


def _letters(equation: str) -> tuple[str, str, str]:
  operands, out = equation.split('->')
  left, right = operands.split(',')
  return left, right, out
