"""Products are plain; on a CPU those of fewer bits go another, exact way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from mmicl_jax.models import configs, products
from mmicl_jax.models.mmicl import MMICL, example_batch, init_params
from mmicl_jax.models.products import FEW, product, times_kernel
from mmicl_jax.models.quantized import quantize_kernel

# A Dense, a Dense over heads, attention's scores and sums, those of the ViT.
EQUATIONS = {
  'abc,cd->abd': ((2, 3, 8), (8, 5)),
  'abcd,cde->abe': ((2, 3, 4, 8), (4, 8, 5)),
  'bhtk,bhsk->bhts': ((2, 3, 4, 8), (2, 3, 5, 8)),
  'bhts,bhsk->bhtk': ((2, 3, 4, 8), (2, 3, 8, 5)),
  'bhts,bshk->bthk': ((2, 3, 4, 8), (2, 8, 3, 5)),
}


def arrays(equation, dtype, first=None):
  keys = jax.random.split(jax.random.key(0))
  shapes = EQUATIONS[equation]
  return [
    jax.random.normal(k, shape).astype(dtype)
    for k, shape in zip(keys, (first or shapes[0], shapes[1]), strict=True)
  ]


def traced(function, *operands):
  return str(jax.make_jaxpr(function)(*operands))


@pytest.fixture(params=[True, False], ids=['multiplies', 'widens'])
def multiplies(request, monkeypatch):
  """Whether the CPU has instructions for products of bfloat16; both."""
  monkeypatch.setattr(products, 'multiplies_bfloat16', lambda: request.param)
  return request.param


def plain(equation):
  return lambda a, b: jnp.einsum(equation, a, b)


def ours(equation):
  return lambda a, b: product(equation, a, b)


@pytest.mark.parametrize('equation', list(EQUATIONS)[:-1])
def test_float32_is_plain(equation):
  operands = arrays(equation, jnp.float32)
  assert traced(ours(equation), *operands) == traced(plain(equation), *operands)


def test_results_come_in_the_order_that_is_fast():
  """einsum would swap the operands, which takes twice the time here."""
  equation = 'bhts,bshk->bthk'
  a, b = arrays(equation, jnp.float32)
  text = traced(ours(equation), a, b)
  assert 'transpose[permutation=(0, 2, 1, 3)]' in text
  want = jnp.einsum(equation, a, b)
  np.testing.assert_allclose(product(equation, a, b), want, atol=1e-5)


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_bfloat16_is_plain_for_an_accelerator(platform):
  device = AbstractDevice('any', 1, platform)
  mesh = AbstractMesh((1,), ('data',), abstract_device=device)
  for equation in EQUATIONS:
    operands = arrays(equation, jnp.bfloat16)
    with use_abstract_mesh(mesh):
      found = traced(ours(equation), *operands)
    assert found == traced(plain(equation), *operands)
  assert found != traced(ours(equation), *operands)


@pytest.mark.parametrize('equation', EQUATIONS)
@pytest.mark.usefixtures('multiplies')
def test_bfloat16_is_the_exact_sum_rounded(equation):
  a, b = arrays(equation, jnp.bfloat16)
  got = product(equation, a, b)
  want = np.einsum(equation, *(np.float64(x) for x in (a, b)))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(got), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize('equation', EQUATIONS)
@pytest.mark.usefixtures('multiplies')
def test_gradients_are_those_of_float32(equation):
  a, b = arrays(equation, jnp.bfloat16)
  shape = jax.eval_shape(ours(equation), a, b).shape
  weights = jax.random.normal(jax.random.key(1), shape).astype(jnp.bfloat16)

  def loss(a, b):
    return (product(equation, a, b) * weights).astype(jnp.float32).sum()

  wide = [x.astype(jnp.float32) for x in (a, b)]
  for got, want in zip(
    jax.grad(loss, (0, 1))(a, b), jax.grad(loss, (0, 1))(*wide), strict=True
  ):
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
      np.float32(got), want, rtol=2**-7, atol=2**-7 * np.abs(want).max()
    )


def test_operands_are_widened_where_the_cpu_has_no_instruction(multiplies):
  """bfloat16 in, float32 out: the product and the gradient of its first half.

  That of the kernel adds up rows, for which there is no such way.
  """
  a, b = arrays('abc,cd->abd', jnp.bfloat16)
  grad = jax.vjp(lambda a, b: times_kernel(a, b, 1), a, b)[1]
  text = jax.jit(grad).lower(jnp.ones((2, 3, 5), jnp.bfloat16)).as_text()
  text += jax.jit(lambda a, b: times_kernel(a, b, 1)).lower(a, b).as_text()
  dots = [
    x.rsplit(' : ', 1)[1] for x in text.splitlines() if 'dot_general' in x
  ]
  halves = [x.split('->') for x in dots]
  assert len(dots) == 3 and all('xf32>' in result for _, result in halves)
  narrow = [x.count('xbf16>') for x, _ in halves].count(2)
  assert narrow == (2 if multiplies else 0), dots


@pytest.mark.parametrize(
  ('equation', 'one'),
  [
    ('abc,cd->abd', (1, 1, 8)),
    ('abcd,cde->abe', (1, 1, 4, 8)),
    ('bhtk,bhsk->bhts', (2, 3, 1, 8)),
  ],
)
def test_a_single_row_is_that_row_of_many(equation, one, multiplies):
  """It takes the way of several rows, with zeros beside it."""
  a, b = arrays(equation, jnp.bfloat16, one)
  got = product(equation, a, b)
  want = np.einsum(equation, *(np.float64(x) for x in (a, b)))
  assert got.shape == want.shape
  np.testing.assert_allclose(np.float64(got), want, rtol=2**-8, atol=1e-5)
  assert (' pad' in traced(ours(equation), a, b)) == multiplies


@pytest.mark.parametrize(
  ('dtype', 'error'), [(jnp.float32, 1e-6), (jnp.bfloat16, 2**-8)]
)
@pytest.mark.parametrize('shape', [(1, 1, 96), (2, 3, 8, 12)])
def test_eight_bits_lose_nothing(shape, dtype, error):
  """The error is that of a sum in x's own dtype."""
  keys = jax.random.split(jax.random.key(0))
  contracted = len(shape) - 2
  x = jax.random.normal(keys[0], shape).astype(dtype)
  x = x.at[..., 0].multiply(50).at[:1, 1:].set(0)
  kernel = jax.random.normal(keys[1], (*shape[2:], 5, 7)).astype(dtype)
  box = quantize_kernel(kernel, contracted)
  got = times_kernel(x, box, contracted)
  wide = np.float64(box.values) * np.float64(box.scale)
  want = np.tensordot(np.float64(x), wide, contracted)
  assert got.dtype == dtype and got.shape == want.shape
  most = error * np.abs(want).max()
  np.testing.assert_allclose(np.float64(got), want, rtol=error, atol=most)
  text = traced(lambda x: times_kernel(x, box, contracted), x)
  assert 'i8[' in text and 'preferred_element_type=int32' in text


def test_many_rows_are_multiplied_as_before():
  x = jax.random.normal(jax.random.key(0), (FEW + 1, 8))
  box = quantize_kernel(jax.random.normal(jax.random.key(1), (8, 5)), 1)
  np.testing.assert_array_equal(times_kernel(x, box, 1), x @ box.unbox())


@pytest.mark.slow
def test_a_model_and_its_gradients():
  """A kernel that is missing shows only when the program is run."""
  config = configs.with_execution(configs.TINY, scan_layers=False)
  params = init_params(config, jax.random.key(0))
  batch = example_batch(config)

  def loss(params, dtype):
    model = MMICL(configs.with_execution(config, dtype=dtype))
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    logits = model.apply({'params': params}, batch)
    return (logits**2).mean()

  run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
  want, got = run(params, 'float32'), run(params, 'bfloat16')
  for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(b) + 1e-4
