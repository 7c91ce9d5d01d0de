"""Depths, variants and the text of the Q-Former."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mmicl_jax.models import configs
from mmicl_jax.models.qformer import QFormer

RUN = configs.Execution()
CONFIG = configs.TINY.qformer


def inputs(rows=2):
  key = jax.random.split(jax.random.key(5), 3)
  queries = jax.random.normal(key[0], (CONFIG.num_queries, 32))
  image = jax.random.normal(key[1], (rows, 1, 5, 24))
  words = jax.random.randint(key[2], (rows, 4), 1, CONFIG.vocab_size)
  return queries, image, words


def init(config, words=True, run=RUN):
  queries, image, text = inputs()
  model = QFormer(config, run)
  variables = jax.eval_shape(
    model.init, jax.random.key(0), queries, image, text if words else None
  )
  return model, variables


@pytest.mark.slow
@pytest.mark.parametrize('instruction', [True, False])
@pytest.mark.parametrize(
  ('layers', 'frequency', 'with_image'),
  [(4, 2, 2), (3, 2, 2), (5, 3, 2), (1, 2, 1), (3, 1, 3)],
)
def test_every_nth_layer_reads_the_image(
  layers, frequency, with_image, instruction
):
  config = dataclasses.replace(
    CONFIG,
    num_layers=layers,
    cross_attention_frequency=frequency,
    instruction=instruction,
  )
  _, variables = init(config, words=instruction)
  flat = traverse_util.flatten_dict(nn.unbox(variables['params']), sep='/')

  def stacked(part):
    return sum(
      leaf.shape[0] if 'groups/' in name else 1
      for name, leaf in flat.items()
      if name.endswith(part)
    )

  assert stacked('self_attention/query/kernel') == layers
  assert stacked('cross_attention/query/kernel') == with_image
  assert stacked('text_mlp_wi/kernel') == (layers if instruction else 0)


def test_initialised_without_words_it_can_read_words():
  _, with_words = init(CONFIG, words=True)
  _, without = init(CONFIG, words=False)
  assert jax.tree.structure(with_words) == jax.tree.structure(without)


@pytest.mark.slow
def test_padding_of_the_words_changes_nothing_and_words_do(random_like):
  queries, image, words = inputs()
  model, variables = init(CONFIG)
  variables = random_like(variables)
  apply = jax.jit(model.apply)
  plain = apply(variables, queries, image, words)
  padded = jnp.pad(words, ((0, 0), (0, 3)))
  np.testing.assert_allclose(
    apply(variables, queries, image, padded), plain, atol=1e-6
  )
  other = apply(variables, queries, image, words[:, ::-1])
  assert np.abs(other - plain).max() > 1e-3


@pytest.mark.slow
def test_no_words_and_only_padding_are_the_same(random_like):
  queries, image, words = inputs()
  model, variables = init(CONFIG)
  variables = random_like(variables)
  apply = jax.jit(model.apply)
  nothing = apply(variables, queries, image)
  np.testing.assert_allclose(
    apply(variables, queries, image, 0 * words), nothing, atol=1e-6
  )


@pytest.mark.slow
def test_dropout_needs_a_key_and_then_differs(random_like):
  queries, image, words = inputs()
  model, variables = init(CONFIG)
  variables = random_like(variables)
  apply = jax.jit(model.apply)
  plain = apply(variables, queries, image, words)
  none = QFormer(dataclasses.replace(CONFIG, dropout_rate=0.0), RUN)
  np.testing.assert_array_equal(
    plain, jax.jit(none.apply)(variables, queries, image, words)
  )

  def dropped(seed):
    rngs = {'dropout': jax.random.key(seed)}
    return apply(variables, queries, image, words, rngs=rngs)

  np.testing.assert_array_equal(dropped(0), dropped(0))
  assert np.abs(dropped(0) - plain).max() > 1e-3
  assert np.abs(dropped(0) - dropped(1)).max() > 1e-3
