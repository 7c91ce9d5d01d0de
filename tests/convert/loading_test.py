import functools

import hf_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hf_models import torch

from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.models import partitioning
from mmicl_jax.models.mmicl import MMICL, abstract_params

CASES = [('instructblip', 0), ('instructblip', 7), ('blip-2', 0)]


@functools.cache
def saved(tmp, kind):
  model = hf_models.hf_model(kind)
  model.save_pretrained(tmp / kind, max_shard_size='60KB')
  return model


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return tmp_path_factory.mktemp('checkpoints')


@pytest.mark.slow
@pytest.mark.parametrize('scan', [True, False])
@pytest.mark.parametrize('kind, words', CASES)
def test_logits_and_loss_equal_hugging_face(directory, kind, words, scan):
  model = saved(directory, kind)
  config, params, _ = load_pretrained(directory / kind, scan_layers=scan)
  assert config.execution.scan_layers == scan
  forward = jax.jit(MMICL(config).apply)
  for counts in ((1, 0, 5), (2, 3, 1)):
    batch = hf_models.batch(counts, len(counts), words)
    arguments = hf_models.hf_arguments(batch, counts)
    if kind == 'instructblip' and not words:
      # No text at all, as the published scripts run it.
      arguments['qformer_input_ids'] = torch.zeros(sum(counts), 0, dtype=int)
    with torch.no_grad():
      theirs = model(**arguments)
    ours = forward(
      {'params': params}, {k: jnp.array(v) for k, v in batch.items()}
    )
    logits = theirs.logits.numpy()
    assert np.abs(ours - logits).max() < min(1e-4, 1e-5 * np.abs(logits).max())
    w = batch['decoder_loss_weights']
    chosen = jnp.take_along_axis(
      jax.nn.log_softmax(ours), batch['decoder_target_tokens'][..., None], 2
    )
    loss = -(chosen[..., 0] * w).sum() / w.sum()
    np.testing.assert_allclose(loss, theirs.loss.numpy(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.devices(8)
@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_onto_a_mesh(directory, dtype):
  """Each parameter arrives in its sharding and dtype, with the same values."""
  saved(directory, 'instructblip')
  mesh = partitioning.make_mesh(data=2, fsdp=2, tensor=2)
  config, params, _ = load_pretrained(
    directory / 'instructblip', dtype=dtype, mesh=mesh
  )
  _, whole, _ = load_pretrained(directory / 'instructblip', dtype=dtype)
  places = partitioning.shardings(abstract_params(config), mesh)

  def placed(array, plain, place):
    assert array.dtype == plain.dtype == dtype
    assert array.sharding.is_equivalent_to(place, array.ndim)
    np.testing.assert_array_equal(np.asarray(array), np.asarray(plain))

  jax.tree.map(placed, params, whole, places)
  kernel = params['t5']['encoder']['layers']['mlp']['wi_0']['kernel']
  layers, width, hidden = kernel.shape
  assert len(kernel.addressable_shards) == 8
  piece = kernel.addressable_shards[0].data
  assert piece.shape == (layers, width // 2, hidden // 2)
