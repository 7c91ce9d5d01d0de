"""What is shown of a run: means since the last time, and rates by the clock."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.data.batches import BatchInfo
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.training import log as logs
from mmicl_jax.training import optim
from mmicl_jax.training.settings import StepSettings


@pytest.fixture
def clock(monkeypatch):
  """The time in seconds, in a list that a test may change."""
  now = [100.0]
  monkeypatch.setattr(logs.time, 'monotonic', lambda: now[0])
  return now


def test_means_and_rates_are_of_the_steps_since_the_last_ones(clock):
  seen = {}
  steps = StepSettings(7, 4, optim.constant(1.0))
  bar = ProgressBar('training', steps.train_steps)
  log = logs.RunLog(bar, None, lambda s, m: seen.update({s: m}), steps, 3)
  log.meter = lambda rate: {'mfu': rate / 100}
  with log:
    for step in range(1, 8):
      clock[0] += step  # seconds
      log.add(step, {'loss': jnp.float32(step)}, {'skipped': 2.0 * step})
  assert list(seen) == [3, 6, 7]  # every third, and the last
  assert [m['loss'] for m in seen.values()] == [2.0, 5.0, 7.0]
  rates = [3 * 4 / (1 + 2 + 3), 3 * 4 / (4 + 5 + 6), 1 * 4 / 7]
  for metrics, rate in zip(seen.values(), rates, strict=True):
    assert metrics['examples_per_second'] == pytest.approx(rate)
    assert metrics['mfu'] == pytest.approx(rate / 100)
  assert log.last['skipped'] == 14


def test_examples_are_counted_where_rows_hold_several(clock):
  steps = StepSettings(2, 4, optim.constant(1.0))
  bar = ProgressBar('training', steps.train_steps)
  log = logs.RunLog(bar, None, None, steps, 2)
  batch = {'encoder_input_tokens': np.zeros((4, 3))}
  with log:
    for step, examples in ((1, 9), (2, 7)):
      clock[0] += 2
      log.count(batch, BatchInfo((), examples=examples))
      log.add(step, {'loss': jnp.float32(1)}, {})
  assert log.last['examples_per_second'] == pytest.approx((9 + 7) / 4)
