import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmicl_jax.models import partitioning
from mmicl_jax.training import optim, stages
from mmicl_jax.training import step as train_step

V = 7


def toy_params():
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  return {
    'vit': {'kernel': jax.random.normal(keys[0], (5, 6)).astype(jnp.bfloat16)},
    'projector': {'kernel': jax.random.normal(keys[1], (6, 4))},
    't5': {'lm_head': jax.random.normal(keys[2], (4, V))},
  }


def toy_apply(params, batch, rng):
  x = jax.nn.one_hot(batch['decoder_input_tokens'], 5)
  x = jnp.tanh(x @ params['vit']['kernel'].astype(x.dtype))
  if rng is not None:
    x *= jax.random.bernoulli(rng, 0.5, x.shape)
  return x @ params['projector']['kernel'] @ params['t5']['lm_head']


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  lengths = np.array([1, 3, 2, 3])
  return {
    'decoder_input_tokens': jnp.asarray(rng.integers(0, 5, (4, 3))),
    'decoder_target_tokens': jnp.asarray(rng.integers(0, V, (4, 3))),
    'decoder_loss_weights': jnp.asarray(np.arange(3) < lengths[:, None], int),
  }


PROFILE = ('^projector/',)


def gradients(batch, rng=None, **options):
  trainable, frozen = stages.split_params(toy_params(), PROFILE)
  return train_step.gradients(
    toy_apply, trainable, frozen, batch, rng, **options
  )


def test_cross_entropy_is_torchs():
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, V)).astype(np.float32)
  targets = rng.integers(0, V, (2, 3))
  weights = np.array([[1, 1, 0], [1, 0, 0]])
  ours = train_step.cross_entropy(*map(jnp.asarray, (logits, targets, weights)))
  labels = torch.from_numpy(np.where(weights, targets, -100)).flatten()
  theirs = torch.nn.functional.cross_entropy(
    torch.from_numpy(logits).reshape(-1, V), labels, reduction='sum'
  )
  np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)


@pytest.mark.slow
def test_gradients_exist_for_the_trainable_half_alone(batch):
  grads, _ = gradients(batch)
  assert set(grads) == {'projector'}


@pytest.mark.parametrize('n', [2, 4])
def test_token_mean_does_not_depend_on_microbatches(batch, n):
  whole, parts = gradients(batch), gradients(batch, num_microbatches=n)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5), whole, parts
  )


@pytest.mark.parametrize('n', [1, 2])
def test_accuracy_is_the_share_of_target_tokens(batch, n):
  logits = toy_apply(toy_params(), batch, None)
  weights = batch['decoder_loss_weights']
  hits = (logits.argmax(-1) == batch['decoder_target_tokens']) * weights
  assert 0 < hits.sum() < weights.sum() == 9
  _, metrics = gradients(batch, num_microbatches=n)
  assert metrics['accuracy'] == pytest.approx(float(hits.sum()) / 9)


def test_microbatch_mean_is_the_mean_of_means(batch):
  _, metrics = gradients(batch, num_microbatches=2, loss_mean='microbatch')
  halves = [{k: x[i : i + 2] for k, x in batch.items()} for i in (0, 2)]
  means = [gradients(half)[1]['loss'] for half in halves]
  np.testing.assert_allclose(metrics['loss'], np.mean(means), rtol=1e-6)
  assert abs(metrics['loss'] - gradients(batch)[1]['loss']) > 1e-3
  assert metrics['tokens'] == 9


def test_microbatches_have_their_own_dropout(batch):
  same = {k: jnp.concatenate([x[:2], x[:2]]) for k, x in batch.items()}
  key = jax.random.PRNGKey(1)
  _, both = gradients(same, key, num_microbatches=2)
  _, one = gradients({k: x[:2] for k, x in batch.items()}, key)
  assert both['loss'] != one['loss']


@pytest.mark.slow
@pytest.mark.devices(4)
def test_no_device_gets_the_rows_of_others_to_cut_them_into_microbatches(batch):
  mesh = partitioning.make_mesh(2, 2, 1)
  place = partitioning.batch_sharding(mesh)
  rows = {name: jnp.tile(x, (4, 1)) for name, x in batch.items()}
  rows['encoder_images'] = jnp.zeros((16, 3), jnp.uint8)

  def apply(params, batch, rng):
    seen = batch['encoder_images'].sum(1)[:, None, None]
    return toy_apply(params, batch, rng) + seen

  trainable, frozen = stages.split_params(toy_params(), PROFILE)
  step = jax.jit(
    lambda rows: train_step.gradients(
      apply,
      trainable,
      frozen,
      rows,
      None,
      num_microbatches=2,
      batch_sharding=place,
    )
  )
  compiled = step.lower(jax.device_put(rows, place)).compile()
  assert 'all-gather' not in compiled.as_text()
  grads, _ = compiled(jax.device_put(rows, place))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5),
    jax.device_get(grads),
    gradients(batch)[0],
  )


def test_a_batch_without_targets_gives_zero(batch):
  empty = batch | {'decoder_loss_weights': batch['decoder_loss_weights'] * 0}
  grads, metrics = gradients(empty)
  assert metrics['loss'] == 0 and optax.tree.norm(grads) == 0


def run(batch, steps, rng=None):
  schedule = optim.constant(1e-1)
  optimizer = optim.adamw(schedule)
  trainable, frozen = stages.split_params(toy_params(), PROFILE)
  step = jax.jit(
    functools.partial(
      train_step.train_step,
      apply=toy_apply,
      optimizer=optimizer,
      learning_rate=schedule,
      rng=rng,
    )
  )
  state = train_step.TrainState(
    jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable)
  )
  history = []
  for _ in range(steps):
    state, metrics = step(state, frozen, batch)
    history.append(metrics)
  return state, history


def test_steps_learn(batch):
  state, history = run(batch, 20)
  assert history[-1]['loss'] < 0.9 * history[0]['loss']
  assert state.step == 20
  assert set(state.params) == {'projector'}
  assert len(jax.tree.leaves(state.opt_state)) == 2 + 2  # two counts, mu, nu


def test_metrics_name_the_modules(batch):
  _, (metrics,) = run(batch, 1)
  assert {
    'loss',
    'accuracy',
    'tokens',
    'learning_rate',
    'grad_norm',
    'grad_norm/projector',
    'param_norm',
    'param_norm/projector',
  } == set(metrics)
  assert metrics['grad_norm'] == pytest.approx(metrics['grad_norm/projector'])
  assert metrics['learning_rate'] == pytest.approx(0.1)


def test_dropout_is_a_function_of_the_step(batch):
  key = jax.random.PRNGKey(3)
  _, first = run(batch, 2, key)
  _, again = run(batch, 2, key)
  assert first[1]['loss'] == again[1]['loss']
  # The same parameters at another step drop other units.
  schedule = optim.constant(0.0)
  optimizer = optim.adamw(schedule)
  trainable, frozen = stages.split_params(toy_params(), PROFILE)
  losses = {
    float(
      train_step.train_step(
        train_step.TrainState(
          jnp.asarray(step), trainable, optimizer.init(trainable)
        ),
        frozen,
        batch,
        apply=toy_apply,
        optimizer=optimizer,
        learning_rate=schedule,
        rng=key,
      )[1]['loss']
    )
    for step in range(3)
  }
  assert len(losses) == 3
