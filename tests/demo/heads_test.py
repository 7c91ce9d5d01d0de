"""The heads of a new language model: where they look, and what they copy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import flat

from mmicl_jax.demo import data, phases
from mmicl_jax.demo.heads import ready_heads
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.models.t5 import relative_buckets
from mmicl_jax.tokenizer import Tokenizer

LAYERS = ['layers_0', 'layers_1', 'layers_2']


@pytest.fixture(scope='module')
def new(tmp_path_factory):
  vocabulary = tmp_path_factory.mktemp('demo') / 'spiece.model'
  vocabulary.write_bytes(data.demo_vocabulary(per_task=1))
  config = phases.config(Tokenizer(vocabulary))
  return jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))


def read_tokens(params, layer):
  """100 tokens as attention reads them, and the layer's kernels."""
  tokens = params['t5']['token_embedder']['embedding'][:100]
  unit = tokens / jnp.sqrt(jnp.mean(tokens**2, axis=-1, keepdims=True))
  attention = params['t5']['encoder'][layer]['self_attention']
  return unit, {name: part['kernel'] for name, part in attention.items()}


@pytest.mark.parametrize('layer', LAYERS)
def test_a_token_looks_for_its_like(new, layer):
  """In each head most of 100 tokens score highest with themselves."""

  def found(params):
    unit, kernels = read_tokens(params, layer)
    query, key = (
      jnp.einsum('te,ehd->htd', unit, kernels[name])
      for name in ('query', 'key')
    )
    scores = jnp.einsum('hqd,hkd->hqk', query, key)
    return np.mean(scores.argmax(axis=-1) == np.arange(100), axis=1)

  assert np.all(found(new) < 0.1) and np.all(found(ready_heads(new)) > 0.4)


@pytest.mark.parametrize('layer', LAYERS)
def test_what_a_head_adds_is_like_what_it_read(new, layer):
  def likeness(params):
    unit, kernels = read_tokens(params, layer)
    value = jnp.einsum('te,ehd->thd', unit, kernels['value'])
    added = jnp.einsum('thd,hde->the', value, kernels['out'])
    return np.mean(jnp.einsum('te,the->th', unit, added), axis=0)

  most = np.abs(likeness(new)).max()
  assert np.all(likeness(ready_heads(new)) > 2 * most)


def test_the_first_heads_look_at_their_neighbours(new):
  bias = ready_heads(new)['t5']['encoder']['relative_bias']['embedding']
  places = jnp.arange(20)
  buckets = relative_buckets(
    places - places[:, None], bidirectional=True, num_buckets=32,
    max_distance=128,
  )  # fmt: skip
  table = np.array(bias)[np.array(buckets)]  # from, to, head
  for place in (5, 12):
    seen = table[place].argmax(axis=0)
    np.testing.assert_array_equal(seen[:4] - place, np.array([-1, -2, -3, 1]))
  assert not table[..., 4:].any()


def test_nothing_else_changes(new):
  before, after = flat(new), flat(ready_heads(new))
  assert before.keys() == after.keys()
  changed = {
    name for name in before if not np.array_equal(before[name], after[name])
  }
  kernels = {
    f't5/encoder/{layer}/self_attention/{part}/kernel'
    for layer in LAYERS
    for part in ('query', 'out')
  }
  assert changed == kernels | {'t5/encoder/relative_bias/embedding'}
  for name in kernels:
    assert float(after[name].std() / before[name].std()) == pytest.approx(1)
