import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.training import optim, stages


def attention():
  return {
    name: {'kernel': jnp.ones((2, 3))} for name in ('query', 'key', 'value')
  }


def tree(layer='layers'):
  return {
    'vit': {'kernel': jnp.ones((4, 4))},
    'qformer': {layer: {'self_attention': attention()}},
    'query_tokens': jnp.ones((1, 2, 3)),
    'projector': {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones((2,))},
    't5': {
      'encoder': {layer: {'self_attention': attention()}},
      'decoder': {
        layer: {'self_attention': attention(), 'cross_attention': attention()}
      },
      'token_embedder': {'embedding': jnp.ones((5, 2), jnp.bfloat16)},
    },
  }


def paths(t):
  return set(stages._paths(t))


PROJECTOR = {'projector/kernel', 'projector/bias'}
EXPECTED = {
  'pretrain': PROJECTOR
  | {'query_tokens'}
  | {f'qformer/LAYER/self_attention/{n}/kernel' for n in attention()},
  'tune_released': PROJECTOR
  | {
    f't5/{s}/LAYER/self_attention/query/kernel' for s in ('encoder', 'decoder')
  },
  'tune': PROJECTOR
  | {
    f't5/{s}_attention/{n}/kernel'
    for s in ('encoder/LAYER/self', 'decoder/LAYER/self', 'decoder/LAYER/cross')
    for n in ('query', 'value')
  },
  'tune_figure': PROJECTOR
  | {
    f't5/{s}_attention/{n}/kernel'
    for s in ('encoder/LAYER/self', 'decoder/LAYER/self', 'decoder/LAYER/cross')
    for n in ('query', 'key')
  },
}


@pytest.mark.parametrize('layer', ['layers', 'layers_0'])
@pytest.mark.parametrize('profile', EXPECTED)
def test_profile_trains_exactly_its_parameters(profile, layer):
  trainable, frozen = stages.split_params(tree(layer), profile)
  expected = {p.replace('LAYER', layer) for p in EXPECTED[profile]}
  assert paths(trainable) == expected
  assert paths(frozen) == paths(tree(layer)) - expected


def test_merge_is_the_inverse_of_split():
  t = tree()
  merged = stages.merge_params(*stages.split_params(t, 'tune'))
  assert jax.tree.structure(merged) == jax.tree.structure(t)


def test_all_trains_everything():
  trainable, frozen = stages.split_params(tree(), 'all')
  assert paths(trainable) == paths(tree()) and frozen == {}


def test_boxed_leaves_stay_boxed():
  boxed = jax.tree.map(
    lambda x: nn.LogicallyPartitioned(x, names=(None,) * x.ndim), tree()
  )
  trainable, _ = stages.split_params(boxed, 'pretrain')
  assert isinstance(trainable['query_tokens'], nn.LogicallyPartitioned)
  assert stages.ledger_of(boxed, 'tune') == stages.ledger_of(tree(), 'tune')


def test_unknown_profile_names_the_known_ones():
  with pytest.raises(UserError, match="'tuen'.*tune_released"):
    stages.split_params(tree(), 'tuen')


def test_each_expression_must_match():
  with pytest.raises(UserError, match='lora'):
    stages.split_params(tree(), ('^projector/', 'lora'))
  without_cross = tree()
  del without_cross['t5']['decoder']['layers']['cross_attention']
  with pytest.raises(UserError, match='cross_attention'):
    stages.split_params(without_cross, 'tune')


@pytest.mark.parametrize(
  'profile, match', [(('(',), 'no regular'), ((), 'no t')]
)
def test_patterns_that_make_no_sense(profile, match):
  with pytest.raises(UserError, match=match):
    stages.split_params(tree(), profile)


def test_ledger_counts_parameters_bytes_and_moments():
  abstract = jax.eval_shape(tree)
  book = stages.ledger_of(abstract, 'tune', optim.adamw(optim.constant(1e-3)))
  rows = {(e.module, e.trainable): e for e in book.entries}
  encoder = rows['t5/encoder', True]
  assert (encoder.parameters, encoder.bytes) == (12, 48)
  assert encoder.optimizer_bytes == 2 * 48  # two float32 moments
  assert rows['t5/encoder', False].optimizer_bytes == 0
  assert rows['t5/token_embedder', False].bytes == 2 * 10  # bfloat16
  total = sum(x.size for x in jax.tree.leaves(abstract))
  assert book.total(True).parameters + book.total(False).parameters == total


def test_ledger_prints_and_reads_as_json():
  book = stages.ledger_of(tree(), 'tune_released')
  *modules, trainable, frozen = book.rows()
  assert 'vit' in {row['module'] for row in modules}
  assert (trainable['module'], trainable['state']) == ('total', 'trainable')
  assert (frozen['module'], frozen['state']) == ('total', 'frozen')
  data = json.loads(book.to_json())
  assert data['trainable']['parameters'] == book.total(True).parameters
