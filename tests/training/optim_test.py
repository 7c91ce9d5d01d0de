import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.training import optim


def values(schedule, steps):
  return np.array([float(schedule(s)) for s in steps])


def test_log_warmup_is_deepspeeds_formula():
  schedule = optim.log_warmup(1e-4, train_steps=50, warmup=0.2)
  expected = [
    1e-4 * (math.log(s + 1) / math.log(10) if s < 10 else 1) for s in range(50)
  ]
  np.testing.assert_allclose(values(schedule, range(50)), expected, rtol=1e-6)


def test_log_warmup_of_a_short_run_is_finite():
  schedule = optim.log_warmup(1.0, train_steps=2)
  np.testing.assert_allclose(values(schedule, range(3)), [0, 1, 1])


def test_warmup_linear_is_hugging_faces():
  schedule = optim.warmup_linear(2.0, train_steps=20, warmup=0.25)
  expected = [
    2 * (s / 5 if s < 5 else max(0, (20 - s) / 15)) for s in range(25)
  ]
  np.testing.assert_allclose(values(schedule, range(25)), expected, atol=1e-6)


def test_warmup_cosine_is_half_a_cosine():
  schedule = optim.warmup_cosine(2.0, train_steps=20, warmup=0.25, final=0.1)
  cosine = [
    0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (s - 5) / 15)) for s in range(20)
  ]
  expected = [2 * (s / 5 if s < 5 else cosine[s]) for s in range(20)]
  np.testing.assert_allclose(values(schedule, range(20)), expected, atol=1e-6)


@pytest.mark.parametrize('schedule', [optim.warmup_cosine, optim.warmup_linear])
@pytest.mark.parametrize(
  'steps, warmup, rates', [(1, 0.1, [2]), (2, 0.9, [0, 2])]
)
def test_a_run_is_never_all_warm_up(schedule, steps, warmup, rates):
  found = values(schedule(2.0, train_steps=steps, warmup=warmup), range(steps))
  np.testing.assert_allclose(found, rates)


def test_constant():
  assert values(optim.constant(0.5), [0, 7]).tolist() == [0.5, 0.5]


def test_warmup_is_a_share():
  with pytest.raises(UserError, match='share'):
    optim.log_warmup(1e-4, train_steps=100, warmup=20.0)


def gradients(n):
  rng = np.random.default_rng(0)
  return [rng.normal(size=(3, 2)).astype(np.float32) for _ in range(n)]


@pytest.mark.slow
def test_adamw_clips_by_global_norm():
  params = {'a': jnp.zeros((3, 2)), 'b': jnp.zeros((2,))}
  big = {'a': jnp.full((3, 2), 1e3), 'b': jnp.full((2,), 1e3)}
  small = jax.tree.map(lambda x: x / optax.tree.norm(big), big)
  tx = optim.adamw(optim.constant(1.0), eps=1.0)  # eps makes size matter
  update = [tx.update(g, tx.init(params), params)[0] for g in (big, small)]
  np.testing.assert_allclose(update[0]['a'], update[1]['a'], rtol=1e-6)


def test_state_does_not_depend_on_the_schedule():
  params = {'a': jnp.zeros((3, 2))}
  shapes = [
    jax.tree.structure(optim.adamw(s).init(params))
    for s in (optim.constant(1.0), optim.log_warmup(1.0, 10))
  ]
  assert shapes[0] == shapes[1]


def test_adamw_steps_as_torchs():
  torch = pytest.importorskip('torch')
  weight = torch.nn.Parameter(torch.ones(3, 2))
  theirs = torch.optim.AdamW([weight], lr=1e-2, weight_decay=5e-4)
  tx = optim.adamw(optim.constant(1e-2))
  params = jnp.ones((3, 2))
  state = tx.init(params)
  for g in gradients(4):
    weight.grad = torch.from_numpy(g)
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    theirs.step()
    updates, state = tx.update(jnp.asarray(g), state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params, weight.detach().numpy(), atol=1e-6)
