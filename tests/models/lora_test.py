"""Low-rank adapters: what they add, what trains, and what is exported."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from small_run import CONFIG, Data, assert_bits_equal, flat, run

from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.convert import disk
from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs, lora, mmicl

pytestmark = pytest.mark.slow  # one model is compiled for all of them

LORA = configs.LoRA(rank=2, alpha=3.0)
ADAPTED = configs.with_execution(CONFIG, lora=LORA)
init = jax.jit(mmicl.init_params, static_argnums=0)


def logits(config, params):
  batch = jax.tree.map(jnp.asarray, Data().batch(0))
  apply = jax.jit(mmicl.MMICL(config).apply)
  return apply({'params': params}, batch)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  directory = tmp_path_factory.mktemp('base')
  params = init(CONFIG, jax.random.key(0))
  store.save_weights(directory, params)
  return directory, params


@pytest.fixture(scope='module')
def trained(base, tmp_path_factory):
  directory = tmp_path_factory.mktemp('trained')
  result = run(
    directory, 3, config=ADAPTED, trainable='lora', init_from=base[0]
  )
  return directory, result.params


def test_adapters_stand_where_they_should():
  paths = flat(mmicl.abstract_params(ADAPTED))
  found = {path for path in paths if 'lora' in path}
  assert found and all(
    re.search(r'attention/(query|value)/lora_[ab]$', path) for path in found
  )
  assert len(found) == 3 * 2 * 2  # attentions of T5, query and value, factors
  assert not any(path.startswith(('vit', 'qformer')) for path in found)


def test_a_new_adapter_changes_nothing(base):
  _, params = base
  fresh = lora.split_adapters(init(ADAPTED, jax.random.key(1)))[1]
  both = lora.split_adapters(flat_merge(params, fresh))
  assert_bits_equal(both[0], params)
  np.testing.assert_array_equal(
    logits(ADAPTED, flat_merge(params, fresh)), logits(CONFIG, params)
  )


def flat_merge(*trees):
  merged = {path: x for tree in trees for path, x in flat(tree).items()}
  return traverse_util.unflatten_dict(merged, sep='/')


def test_only_adapters_and_projector_learn(base, trained):
  before, (_, after) = flat(base[1]), trained
  for path, x in flat(after).items():
    if 'lora' in path:
      assert np.any(x != 0), path
    elif not path.startswith('projector/'):
      np.testing.assert_array_equal(x, before[path], err_msg=path)


def fold(config, params):
  leaves = flat(params)
  shapes = {
    path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in leaves.items()
  }
  plain, shapes, read = lora.folded(config, shapes, leaves.__getitem__)
  merged = {path: read(path) for path in shapes}
  return plain, traverse_util.unflatten_dict(merged, sep='/')


@pytest.mark.parametrize('scanned', [True, False])
def test_folded_is_the_same_model(trained, scanned):
  config, params = ADAPTED, trained[1]
  if not scanned:
    config = configs.with_execution(config, scan_layers=False)
    params = init(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.01, params)
  plain, folded = fold(config, params)
  assert plain.execution.lora is None
  assert not any('lora' in path for path in flat(folded))
  np.testing.assert_allclose(
    logits(plain, folded), logits(config, params), atol=1e-5
  )
  without = logits(plain, lora.split_adapters(params)[0])
  assert np.abs(without - logits(plain, folded)).max() > 1e-4


def test_what_was_trained_is_not_rounded_to_a_frozen_kernels_dtype():
  params = init(ADAPTED, jax.random.key(0))
  params = jax.tree.map(lambda x: x + 0.01, params)
  frozen, adapters = lora.split_adapters(params)
  coarse = flat(jax.tree.map(lambda x: x.astype(jnp.bfloat16), frozen))
  both = traverse_util.unflatten_dict(coarse | flat(adapters), sep='/')
  folded = flat(fold(ADAPTED, both)[1])
  exact = flat(fold(ADAPTED, jax.tree.map(lambda x: x.astype('f'), both))[1])
  changed = {p.rsplit('/', 1)[0] for p in flat(adapters)}
  for path, x in exact.items():
    if path.removesuffix('/kernel') in changed:
      assert folded[path].dtype == np.float32
      np.testing.assert_array_equal(folded[path], x, err_msg=path)
    else:
      assert folded[path].dtype == jnp.bfloat16


def test_the_export_has_the_adapters_folded_in(trained, tmp_path):
  directory, params = trained
  assert model_dir.read_config(directory) == ADAPTED
  disk.to_pytorch(directory, tmp_path / 'hf')
  config, exported, _ = load_pretrained(tmp_path / 'hf')
  assert config.execution.lora is None
  _, folded = fold(ADAPTED, params)
  for path, x in flat(folded).items():
    np.testing.assert_array_equal(flat(exported)[path], x, err_msg=path)


def test_a_model_without_adapters_cannot_train_them(base, tmp_path):
  with pytest.raises(UserError, match='lora_.* matches no'):
    run(tmp_path, 1, trainable='lora', init_from=base[0])


def test_a_resumed_run_has_its_adapters(trained, base):
  directory, params = trained
  again = run(directory, 3, config=ADAPTED, trainable='lora')
  assert_bits_equal(again.params, params)
