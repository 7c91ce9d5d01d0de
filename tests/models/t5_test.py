"""Decoding with a cache, causality, masks and distances of the T5."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models import configs
from mmicl_jax.models.t5 import T5, Decoder, Encoder, relative_buckets

RUN = configs.Execution()
CONFIG = dataclasses.replace(
  configs.TINY.t5, num_decoder_layers=3, vocab_size=64
)


@pytest.fixture(scope='module')
def make(random_like):
  """A T5, and parameters whose distances and scales are far from initial."""

  def init(model, tokens):
    encoded = model.encode(model.embed(tokens), tokens != 0)
    return model.decode(tokens, encoded, tokens != 0)

  def build(run=RUN):
    model, tokens = T5(CONFIG, run), jnp.ones((1, 2), jnp.int32)
    start = functools.partial(model.init, method=init)
    params = random_like(jax.eval_shape(start, jax.random.key(0), tokens))
    return model, jax.tree_util.tree_map_with_path(small_queries, params)

  return build


def small_queries(path, x):
  """T5's attention has no scale but in its weights.

  With larger ones it is so sharp that a parameter's last bit moves a logit by
  1e-4, and two exact computations differ by as much.
  """
  names = [key.key for key in path]
  return x / CONFIG.head_dim if 'query' in names else x


def prompts(rows=2, length=7):
  encoded = jax.random.normal(jax.random.key(1), (rows, length, 32))
  is_token = jnp.arange(length) < jnp.array([length, length - 3])[:rows, None]
  return encoded, is_token


@pytest.mark.slow
@pytest.mark.parametrize('scan_layers', [True, False])
@pytest.mark.parametrize(('shared', 'prefill'), [(1, 1), (3, 1), (3, 3)])
def test_cached_decoding_equals_teacher_forcing(
  make, scan_layers, shared, prefill
):
  run = dataclasses.replace(RUN, scan_layers=scan_layers)
  model, variables = make(run)
  encoded, is_token = prompts()
  rows, length = 2 * shared, 6
  tokens = jax.random.randint(jax.random.key(2), (rows, length), 0, 64)
  # Teacher forcing tiles the prompts; decoding must give the same without.
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  expected, _ = decode(
    variables,
    tokens,
    jnp.repeat(encoded, shared, axis=0),
    jnp.repeat(is_token, shared, axis=0),
  )

  cache = model.apply(variables, rows, length + 2, method='empty_cache')
  step = jax.jit(
    lambda tokens, encoded, cache, index: model.apply(
      variables, tokens, encoded, is_token, cache, index, method='decode'
    )
  )
  logits, cache = step(tokens[:, :prefill], encoded, cache, 0)
  got = [logits]
  for i in range(prefill, length):
    logits, cache = step(tokens[:, i : i + 1], None, cache, i)
    got.append(logits)
  np.testing.assert_allclose(
    np.concatenate(got, axis=1), expected, rtol=1e-5, atol=1e-5
  )
  prompt_rows = {
    x.shape[-4] for x in jax.tree.leaves([c.prompt for c in _layers(cache)])
  }
  assert prompt_rows == {2}, 'keys of the prompt are not tiled'


def _layers(cache):
  return [cache] if hasattr(cache, 'prompt') else list(cache)


@pytest.mark.slow
def test_an_output_depends_on_earlier_tokens_only(make):
  _, variables = make()
  encoded, is_token = prompts()
  x = jax.random.normal(jax.random.key(3), (2, 5, 32))
  params = {'params': variables['params']['decoder']}

  def outputs(x):
    y, _ = Decoder(CONFIG, RUN).apply(params, x, encoded, is_token)
    return (y[0] ** 2).sum(-1)  # one number a position of row 0

  reach = np.abs(jax.jit(jax.jacrev(outputs))(x)).max(
    -1
  )  # position, row, position
  assert (reach[:, 1] == 0).all(), 'rows do not touch'
  np.testing.assert_array_equal(reach[:, 0] > 0, np.tri(5, dtype=bool))


@pytest.mark.slow
def test_the_encoder_reads_every_token_and_no_padding(make):
  _, variables = make()
  _, is_token = prompts()
  x = jax.random.normal(jax.random.key(3), (2, 7, 32))
  params = {'params': variables['params']['encoder']}

  def outputs(x):
    return (Encoder(CONFIG, RUN).apply(params, x, is_token)[1] ** 2).sum(-1)

  reach = np.abs(jax.jit(jax.jacrev(outputs))(x)).max(-1)[:, 1]
  tokens = np.arange(7) < 4
  np.testing.assert_array_equal(
    reach[tokens] > 0, np.broadcast_to(tokens, (4, 7))
  )


@pytest.mark.parametrize('bidirectional', [True, False])
def test_buckets_of_distances_are_those_of_transformers(bidirectional):
  torch = pytest.importorskip('torch')
  modeling = pytest.importorskip('transformers.models.t5.modeling_t5')
  distances = np.arange(-600, 601, dtype=np.int32)[None]
  expected = modeling.T5Attention._relative_position_bucket(
    torch.from_numpy(distances).long(), bidirectional, 32, 128
  )
  got = relative_buckets(
    jnp.array(distances),
    bidirectional=bidirectional,
    num_buckets=32,
    max_distance=128,
  )
  np.testing.assert_array_equal(got, expected.numpy())


def test_buckets_of_near_distances():
  """Without PyTorch: -1 is bucket 1, +1 is 17, far ones end in the last."""
  distances = jnp.array([[-1000, -2, -1, 0, 1, 2, 1000]])
  both = relative_buckets(
    distances, bidirectional=True, num_buckets=32, max_distance=128
  )
  past = relative_buckets(
    distances, bidirectional=False, num_buckets=32, max_distance=128
  )
  assert both.tolist() == [[15, 2, 1, 0, 17, 18, 31]]
  assert past.tolist() == [[31, 2, 1, 0, 0, 0, 0]]


@pytest.mark.slow
def test_order_of_the_prompt_matters_through_distances_alone(make):
  _, variables = make()
  x = jax.random.normal(jax.random.key(3), (1, 6, 32))
  order = jnp.array([3, 0, 5, 1, 2, 4])
  all_tokens = jnp.ones((1, 6), bool)
  params = variables['params']['encoder']

  @jax.jit
  def encode(params, x):
    return Encoder(CONFIG, RUN).apply({'params': params}, x, all_tokens)

  moved = encode(params, x[:, order]) - encode(params, x)[:, order]
  assert np.abs(moved).max() > 0.1
  flat = {**params, 'relative_bias': {'embedding': jnp.zeros((32, 2))}}
  np.testing.assert_allclose(
    encode(flat, x[:, order]), encode(flat, x)[:, order], atol=1e-5
  )


@pytest.mark.slow
def test_activation_is_erf_gelu_unless_told_otherwise(make):
  """BLIP-2's T5 differs here from stock FLAN-T5 (tanh) in the third digit."""
  model, variables = make()
  tokens = jnp.array([[1, 2, 3]])
  tanh = T5(dataclasses.replace(CONFIG, activation='gelu_new'), RUN)
  x = 3 * jax.random.normal(jax.random.key(0), (1, 3, 32))
  a, b = (
    jax.jit(functools.partial(t5.apply, method='encode'))(
      variables, x, tokens != 0
    )
    for t5 in (model, tanh)
  )
  assert 1e-6 < np.abs(a - b).max() < 1e-1
