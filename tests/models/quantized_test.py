"""Eight-bit kernels: close to the original, and opened only where used."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import (
  MMICL,
  abstract_params,
  example_batch,
  init_params,
)
from mmicl_jax.models.quantized import (
  Quantized,
  keep_in_loop,
  quantize,
  quantize_kernel,
)

CONFIG = configs.with_execution(configs.TINY, scan_layers=False)


@pytest.fixture(scope='module')
def params():
  make = jax.jit(init_params, static_argnums=0)
  return make(CONFIG, jax.random.key(0))


@pytest.mark.parametrize('contracted', [1, 2])
def test_error_is_half_a_step_of_its_channel(contracted):
  kernel = jax.random.normal(jax.random.key(0), (6, 5, 7))
  kernel = kernel.at[..., 3].multiply(100).at[..., 4].set(0)
  box = quantize_kernel(kernel, contracted)
  assert box.values.dtype == jnp.int8 and box.values.shape == kernel.shape
  axes = tuple(range(contracted))
  step = np.abs(kernel).max(axes, keepdims=True) / 127
  assert (np.abs(box.unbox() - kernel) <= step / 2 + 1e-6).all()
  assert int(jnp.abs(box.values).max()) == 127


def test_bits_do_not_depend_on_how_it_is_compiled():
  kernel = jax.random.normal(jax.random.key(0), (64, 300))
  box = quantize_kernel(kernel, 1)
  with jax.disable_jit():
    apart = quantize_kernel(kernel, 1)
  jax.tree.map(np.testing.assert_array_equal, box, apart)


@pytest.mark.slow
def test_all_kernels_and_nothing_else(params):
  boxed = quantize(params)
  is_box = lambda x: isinstance(x, Quantized)  # noqa: E731
  for path, leaf in jax.tree.leaves_with_path(boxed, is_leaf=is_box):
    assert is_box(leaf) == (path[-1].key == 'kernel'), path
  out = boxed['t5']['encoder']['layers_0']['self_attention']['out']['kernel']
  assert out.scale.shape == (1, 1, CONFIG.t5.hidden_size)
  size = sum(x.nbytes for x in jax.tree.leaves(boxed['t5']['decoder']))
  whole = sum(x.nbytes for x in jax.tree.leaves(params['t5']['decoder']))
  assert size < 0.35 * whole  # a quarter, and scales


@pytest.mark.slow
def test_logits_stay_close(params):
  batch = example_batch(CONFIG)
  forward = jax.jit(lambda p: MMICL(CONFIG).apply({'params': p}, batch))
  want, got = forward(params), forward(quantize(params))
  assert 0 < np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_stacked_kernels_are_those_of_their_layers():
  def layer(dense, x, _):
    return jnp.tanh(dense(x)), None

  def forward(params, x):
    scanned = nn.scan(
      layer, variable_axes={'params': 0}, split_rngs={'params': True}, length=3
    )

    class Stack(nn.Module):
      @nn.compact
      def __call__(self, x):
        return scanned(nn.Dense(4, use_bias=False, name='layers'), x, None)[0]

    return Stack().apply({'params': {'layers': params}}, x)

  kernels = jax.random.normal(jax.random.key(0), (3, 4, 4))
  x = want = jnp.ones((2, 4))
  for kernel in kernels:
    want = jnp.tanh(want @ quantize_kernel(kernel, 1).unbox())
  boxes = jax.vmap(lambda kernel: quantize_kernel(kernel, 1))(kernels)
  np.testing.assert_allclose(forward({'kernel': boxes}, x), want, atol=1e-6)


def test_boxes_are_not_opened_before_the_loop():
  """The loop of the compiled program carries eight bits, not their floats."""
  box = quantize_kernel(jnp.ones((64, 64)), 1)

  def run(box, x):
    def body(_, x):
      weights, x = keep_in_loop({'kernel': box}, x)
      return jnp.tanh(x @ weights['kernel'].unbox())

    return jax.lax.fori_loop(0, 5, body, x)

  text = jax.jit(run).lower(box, jnp.ones((1, 64))).compile().as_text()
  [loop] = [line for line in text.splitlines() if ' while(' in line]
  assert 's8[64,64]' in loop and 'f32[64,64]' not in loop


@pytest.mark.slow
def test_xxl_in_eight_bits_fits_a_chip_of_16_gib():
  config = configs.with_execution(
    configs.XXL, scan_layers=False, dtype='bfloat16', param_dtype='bfloat16'
  )
  plain = nn.unbox(abstract_params(config))
  eight = jax.eval_shape(quantize, plain)
  before, after = (
    sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 2**30
    for tree in (plain, eight)
  )
  assert before > 22 and after < 12
