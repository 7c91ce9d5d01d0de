"""What T5X asks of a model, held against the adapter; T5X is not needed.

The names are those of T5X at the commit in requirements/t5x.txt.
"""

import functools
import inspect
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_records
from flax import serialization, traverse_util
from flax.core import freeze, unfreeze

from mmicl_jax.checkpoints.tree import state_tree
from mmicl_jax.errors import UserError
from mmicl_jax.models import mmicl
from mmicl_jax.models.partitioning import RULES
from mmicl_jax.t5x.model import T5XModel
from mmicl_jax.training import optim, stages, step

ROOT = Path(__file__).parents[2]
KEYWORDS = {
  'train': """
    model train_dataset_cfg train_eval_dataset_cfg infer_eval_dataset_cfg
    checkpoint_cfg partitioner trainer_cls model_dir total_steps eval_steps
    eval_period relative_steps stats_period random_seed use_hardware_rng
    summarize_config_fn inference_evaluator_cls get_dataset_fn
    concurrent_metrics actions train_eval_get_dataset_fn
    run_eval_before_training train_state_initializer_cls use_orbax
    verify_matching_vocabs_fn gc_period""",
  'infer': """
    mode model dataset_cfg restore_checkpoint_cfg partitioner output_dir
    checkpoint_period shard_id num_shards merge_chunked_results write_fn
    checkpoint_ds_iter train_state_initializer_cls fallback_init_rng merge_fn
    summarize_config_fn verify_matching_vocabs_fn output_vocab_feature_name
    file_extension keep_aux_as_numpy use_orbax""",
  'evaluate': """
    model dataset_cfg restore_checkpoint_cfg partitioner output_dir
    inference_evaluator_cls training_evaluator_cls summarize_config_fn
    train_state_initializer_cls train_eval_get_dataset_fn fallback_init_rng
    use_orbax""",
  'DatasetConfig': """
    mixture_or_task_name task_feature_lengths split batch_size shuffle seed
    use_cached pack use_custom_packing_ops module use_memory_cache
    trim_output_features runtime_preprocessors num_prefetch_threads
    num_workers""",
}
# Method -> the arguments that T5X passes by position.
METHODS = {
  'get_initial_variables': ['rng', 'input_shapes', 'input_types'],
  'loss_fn': ['params', 'batch', 'dropout_rng'],
  'eval_fn': ['params', 'batch'],
  'predict_batch': ['params', 'batch', 'rng'],
  'predict_batch_with_aux': ['params', 'batch', 'rng'],
  'score_batch': ['params', 'batch'],
}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  return tiny_records.config(
    tiny_records.write(tmp_path_factory.mktemp('records'), 2)
  )


def make(config, profile='tune', **options):
  return T5XModel(
    config,
    'spiece.model',
    trainable=profile,
    learning_rate=optim.constant(0.1),
    **options,
  )


def batch_of(config):
  queries, image = config.qformer.num_queries, config.image_token
  tokens = np.array([[5, *[image] * queries, 6, 1], [7, 8, 9, 1, 0]], np.int32)
  targets = np.array([[3, 1, 0], [4, 5, 1]], np.int32)
  size = config.vit.image_size
  pixels = np.arange(2 * size * size * 3, dtype=np.uint8)
  return {
    'encoder_input_tokens': jnp.asarray(tokens),
    'encoder_images': jnp.asarray(pixels.reshape(2, 1, size, size, 3)),
    'decoder_input_tokens': jnp.asarray(np.roll(targets, 1, 1) * [0, 1, 1]),
    'decoder_target_tokens': jnp.asarray(targets),
    'decoder_loss_weights': jnp.asarray((targets > 0).astype(np.int32)),
  }


def shapes(config):
  return {name: x.shape for name, x in batch_of(config).items()}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_signatures(config, method):
  found = inspect.signature(getattr(make(config), method)).parameters
  assert list(found)[: len(METHODS[method])] == METHODS[method]
  assert 'flax_mutables' not in found


def test_get_initial_variables_is_a_bound_method(config):
  model = make(config)
  assert model.get_initial_variables.__self__ is model  # T5X reads it


@pytest.mark.parametrize('script', ['train', 'infer', 'eval'])
def test_run_files_bind_what_t5x_has(script):
  path = ROOT / 'gin_configs' / 't5x' / f'{script}.gin'
  bound = re.findall(r'^[\w/]*_script\.(\w+)\.(\w+) =', path.read_text(), re.M)
  bound += re.findall(
    r'utils\.(DatasetConfig)\.(\w+) =', path.read_text(), re.M
  )
  assert len(bound) > 10
  for function, keyword in bound:
    assert keyword in KEYWORDS[function].split(), (function, keyword)


def test_every_parameter_has_axes_that_the_rules_know(config):
  found = jax.eval_shape(
    lambda key: make(config).get_initial_variables(key, shapes(config)),
    jax.random.PRNGKey(0),
  )
  params = traverse_util.flatten_dict(unfreeze(found['params']))
  axes = traverse_util.flatten_dict(unfreeze(found['params_axes']))
  assert {(*p[:-1], f'{p[-1]}_axes') for p in params} == set(axes)
  names = {name for name, _ in RULES} | {None}
  for path, x in params.items():
    labels = axes[(*path[:-1], f'{path[-1]}_axes')].names
    assert len(labels) == x.ndim and set(labels) <= names, path


@pytest.mark.slow
def test_starts_as_the_other_trainer_does(config):
  model = make(config, frozen_dtype='bfloat16')
  key = jax.random.PRNGKey(3)
  found = model.get_initial_variables(key, shapes(config))['params']
  want = mmicl.init_params(config, key)
  assert jax.tree.structure(unfreeze(found)) == jax.tree.structure(want)
  trainable, frozen = stages.split_params(unfreeze(found), 'tune')
  assert {x.dtype for x in jax.tree.leaves(trainable)} == {jnp.dtype('float32')}
  assert {x.dtype for x in jax.tree.leaves(frozen)} == {jnp.dtype('bfloat16')}
  ours = stages.split_params(want, 'tune')[0]
  jax.tree.map(np.testing.assert_array_equal, trainable, ours)
  assert model.ledger().total(False).bytes == sum(
    x.nbytes for x in jax.tree.leaves(frozen)
  )


def test_the_optimizer_state_has_the_checkpoints_names(config):
  model = make(config)
  params = nn.unbox(mmicl.abstract_params(config))
  state = jax.eval_shape(model.transformation.init, freeze(params))
  named = traverse_util.flatten_dict(serialization.to_state_dict(state))
  theirs = {path for path, x in named.items() if hasattr(x, 'shape')}
  trainable = stages.split_params(params, 'tune')[0]
  inner = jax.eval_shape(model.chain.init, trainable)
  tree = state_tree(params, 0, inner)['state']['param_states']
  assert theirs == set(traverse_util.flatten_dict(tree))


def test_loss_and_gradients_are_those_of_the_other_trainer(config):
  pytest.importorskip('clu')
  model, batch = make(config), batch_of(config)
  params = mmicl.init_params(config, jax.random.PRNGKey(0))
  key = jax.random.PRNGKey(1)
  differentiate = jax.jit(jax.grad(model.loss_fn, has_aux=True))
  grads, metrics = differentiate(params, batch, key)
  trainable, frozen = stages.split_params(params, 'tune')
  ours_too = jax.jit(functools.partial(step.gradients, model._apply))
  want, _ = ours_too(trainable, frozen, batch, key)
  ours, rest = stages.split_params(grads, 'tune')
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), ours, want
  )
  assert not any(x.any() for x in jax.tree.leaves(rest))
  assert metrics['loss'].count == batch['decoder_loss_weights'].sum()
  loss, _ = jax.jit(model.eval_fn)(params, batch)
  scores = jax.jit(model.score_batch)(params, batch)
  np.testing.assert_allclose(-scores.sum() / 5, loss, rtol=1e-5)
  # T5X adds up what its microbatches give: each is a share of the mean.
  half = make(config, num_microbatches=2, loss_mean='microbatch')
  whole, share = (
    jax.jit(m.loss_fn)(params, batch, key)[0] for m in (model, half)
  )
  np.testing.assert_allclose(2 * share, whole, rtol=1e-5)


@pytest.mark.slow
def test_predictions_are_the_best_sequences(config):
  model, batch = make(config), batch_of(config)
  params = mmicl.init_params(config, jax.random.PRNGKey(0))
  best = jax.jit(make(config, num_decodes=2).predict_batch)(params, batch)
  every, aux = jax.jit(
    functools.partial(
      model.predict_batch_with_aux, num_decodes=2, return_all_decodes=True
    )
  )(params, batch)
  assert every.shape == (2, 2, 3)
  np.testing.assert_array_equal(best, every[:, -1])
  assert (aux['scores'][:, -1] >= aux['scores'][:, 0]).all()


def test_mistakes(config):
  with pytest.raises(UserError, match="LOSS_MEAN='microbatch'"):
    make(config, num_microbatches=2)
  wrong = shapes(config) | {'encoder_images': (2, 1, 28, 28, 3)}
  with pytest.raises(UserError, match='gives images of 28 x 28'):
    make(config).get_initial_variables(jax.random.PRNGKey(0), wrong)
