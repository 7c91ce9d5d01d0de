"""However a model is executed, its numbers are the same."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.models import configs, partitioning
from mmicl_jax.models.mmicl import MMICL, abstract_params
from mmicl_jax.models.stacking import unstack_layers


def loss(config, key=None):
  def run(params, batch):
    rngs = None if key is None else {'dropout': key}
    logits = MMICL(config).apply({'params': params}, batch, rngs=rngs)
    targets = batch['decoder_target_tokens'][..., None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets, axis=-1)
    return -chosen.mean(), logits

  return jax.jit(jax.value_and_grad(run, has_aux=True))


def close(a, b, rtol=1e-3, atol=1e-4):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
  )


@pytest.mark.slow
def test_scanned_layers_equal_a_loop_over_layers(config, params, make_batch):
  batch = make_batch()
  looped = configs.with_execution(config, scan_layers=False)
  apart = unstack_layers(params)
  (value, logits), grads = loss(config)(params, batch)
  (value_2, logits_2), grads_2 = loss(looped)(apart, batch)
  close((value, logits), (value_2, logits_2))
  close(unstack_layers(grads), grads_2)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('remat', 'scan_layers'),
  [('light', True), ('light', False), ('minimal', True), ('full', False)],
)
def test_rematerialisation_changes_no_value_and_no_gradient(
  config, params, make_batch, remat, scan_layers
):
  batch, key = make_batch(), jax.random.key(3)
  plain = configs.with_execution(config, scan_layers=scan_layers)
  if not scan_layers:
    params = unstack_layers(params)
  saving = configs.with_execution(plain, remat=remat)
  # With dropout: the backward pass must draw the same masks again.
  close(loss(saving, key)(params, batch), loss(plain, key)(params, batch))


@pytest.mark.slow
@pytest.mark.parametrize('scan_layers', [True, False])
def test_what_is_computed_again_is_not_merged(
  config, params, make_batch, scan_layers
):
  """A loop over layers needs barriers between the two computations."""
  if not scan_layers:
    params = unstack_layers(params)
  saving = configs.with_execution(config, remat='full', scan_layers=scan_layers)
  lowered = loss(saving).lower(params, make_batch())
  assert ('optimization_barrier' in lowered.as_text()) == (not scan_layers)


@pytest.mark.slow
def test_rematerialisation_keeps_less(config, params, make_batch):
  batch = make_batch(rows=8)

  def temporary(remat):
    changed = configs.with_execution(config, remat=remat)
    compiled = loss(changed).lower(params, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  light = temporary('light')
  assert temporary('full') < 0.9 * light
  assert light < 0.9 * temporary('none')


def test_an_unknown_policy_is_named(config):
  with pytest.raises(UserError, match="remat is 'everything'"):
    abstract_params(configs.with_execution(config, remat='everything'))


@pytest.mark.slow
@pytest.mark.devices(8)
def test_sharded_equals_unsharded(config, params, make_batch):
  batch = make_batch(rows=8, target=6)
  whole = loss(config)(params, batch)
  mesh = partitioning.make_mesh(2, 2, 2)
  places = partitioning.shardings(abstract_params(config), mesh)
  spread = jax.device_put(params, places)
  rows = jax.device_put(batch, partitioning.batch_sharding(mesh))
  with partitioning.use_mesh(mesh):
    step = loss(config).lower(spread, rows).compile()
  # The work itself is divided: its parts are added up, not done 8 times.
  text = step.as_text()
  assert 'all-reduce' in text
  # Where 2 divides a length, dropout and sums are of half of it; the attention
  # between has all of it, and one of two heads.
  (prompt, answer), queries = (16, 6), 7  # the words of an instruction are odd
  softmax = re.findall(r'= f32\[([\d,]+)\]\S* exponential\(', text)
  for query, key in ((prompt,) * 2, (answer, prompt), (answer,) * 2):
    assert f'2,1,{query},{key}' in softmax, softmax
  assert f'4,1,{queries},{queries}' in softmax
  assert re.search(rf'f32\[2,{prompt // 2},32\]', text)
  kernel = spread['t5']['encoder']['layers']['mlp']['wi_0']['kernel']
  assert not kernel.sharding.is_fully_replicated
  close(whole, step(spread, rows))
